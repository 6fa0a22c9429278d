"""The metric of motions: forecasts of tracked boxes against where these objects really went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from plugins.motion.judged import DETECTION_CATEGORIES, judged_forecasts, true_motions
from plugins.motion.metrics import (
    EPA_METRES,
    FINAL_METRES,
    MOTION_CATEGORIES,
    Matches,
    end_to_end_accuracy,
    figures_of_matches,
    match,
)
from toolkit.data.ground_truth import Gap
from toolkit.evaluation.metric import Figure, JudgedFrame, Measured, Metric, Plot, PlotKind, Ranking, Series, Verdict
from toolkit.runtime.results import FrameResult

STEPS, STEP_SECONDS = 12, 0.5
REDUCTION = "mean over recall from 0.1 on"


@dataclass(frozen=True)
class Grouping:
    """Which classes are told apart; `prefix` begins the names of their figures."""

    prefix: str
    meaning: str
    categories: Mapping[str, str]

    @property
    def classes(self) -> Sequence[str]:
        """What the categories make of the classes."""
        return tuple(dict.fromkeys(self.categories.values()))


@dataclass(frozen=True)
class Matching:
    """When a forecast belongs to an agent: within each of `distances`, with an end within `final`; errors at one."""

    prefix: str
    meaning: str
    mean_ap: str
    distances: tuple[float, ...]
    errors_at: float
    final: float | None = None


GROUPINGS = (
    Grouping("", "every vehicle a car", MOTION_CATEGORIES),
    Grouping("ten-classes/", "ten classes", DETECTION_CATEGORIES),
)
STANDARD = Matching("", "nuScenes' matching, errors within 2 m", "mAP", (0.5, 1.0, 2.0, 4.0), 2.0)
MATCHINGS = (
    STANDARD,
    Matching("motion-map/", "matched within 1 m, ends within 2 m", "mAP-motion", (1.0,), 1.0, FINAL_METRES),
    Matching("epa/", "matched within 2 m, ends within 2 m", "mAP", (EPA_METRES,), EPA_METRES, FINAL_METRES),
)
LIMITS = tuple(dict.fromkeys((distance, m.final) for m in MATCHINGS for distance in m.distances))
"""Every distance, with what is asked of the end, within which forecasts are matched."""
ERRORS = {"minADE": ("min_ade", "m"), "minFDE": ("min_fde", "m"), "MR": ("miss_rate", "")}
"""By name in figures: the name in `motion_metrics`, and the unit."""


class Key(NamedTuple):
    """Of what matches are: a grouping's prefix, a class of it, a distance, and what is asked of the end."""

    grouping: str
    label: str
    distance: float
    final: float | None


@dataclass(frozen=True, eq=False)
class JudgedMotions:
    """The matches in one sample of every class that occurs there, and how many boxes have no forecast."""

    matches: Mapping[Key, Matches]
    without_forecast: int


def measure(frame: JudgedFrame) -> JudgedMotions | Gap:
    """Which forecasts found their agents, and how far off they are."""
    if not _is_judgeable(frame.result):
        return Gap(frame.annotated.token, f"forecasts of {STEPS} steps of {STEP_SECONDS} s")
    matches = {}
    for grouping in GROUPINGS:
        truth = true_motions(frame.scene, frame.index, grouping.categories)
        forecasts = judged_forecasts(frame.result.boxes, frame.annotated, grouping.categories)
        if isinstance(truth, Gap) or isinstance(forecasts, Gap):
            return Gap(frame.annotated.token, "annotations")
        present = sorted({*truth.label.tolist(), *forecasts.label.tolist()})
        for label, limits in product(present, LIMITS):
            matches[Key(grouping.prefix, label, *limits)] = match(forecasts, truth, label, *limits)
    return JudgedMotions(matches, sum(box.motion is None for box in frame.result.boxes))


def _is_judgeable(result: FrameResult) -> bool:
    return all(
        box.motion.trajectories.shape[1] >= STEPS and abs(box.motion.step_seconds - STEP_SECONDS) < 1e-6
        for box in result.boxes
        if box.motion is not None
    )


def compute(measured: Measured, folder: Path) -> Verdict:
    """Errors, EPA and precision of both groupings under all matchings, and the frames with the worst forecasts."""
    samples: Sequence[JudgedMotions] = measured.values
    matches = {
        key: Matches.merged(sample.matches[key] for sample in samples if key in sample.matches)
        for key in dict.fromkeys(key for sample in samples for key in sample.matches)
    }
    figures = [figure for grouping in GROUPINGS for figure in _figures_of_grouping(matches, grouping)]
    return Verdict(
        figures=figures,
        plots=[_plot({figure.name: figure.value for figure in figures})],
        rankings=[_worst(measured)],
        notes=_notes(samples),
    )


def _figures_of_grouping(matches: Mapping[Key, Matches], grouping: Grouping) -> Iterator[Figure]:
    """Those first that papers quote."""
    yield from _figures(matches, grouping, STANDARD)
    yield from _accuracies(matches, grouping)
    for matching in MATCHINGS:
        if matching is not STANDARD:
            yield from _figures(matches, grouping, matching)


def _figures(matches: Mapping[Key, Matches], grouping: Grouping, matching: Matching) -> Iterator[Figure]:
    """Those of each class, NaN where there is no agent of it; and mAP, where such a class counts as 0."""
    prefix, protocol = grouping.prefix + matching.prefix, f"UniAD, {matching.meaning}; {grouping.meaning}"
    precisions: list[float] = []
    for label in grouping.classes:
        own = {
            distance: matches.get(Key(grouping.prefix, label, distance, matching.final), Matches.merged(()))
            for distance in matching.distances
        }
        found = figures_of_matches(own, matching.errors_at)
        precisions += found["ap"].values()
        judged = own[matching.errors_at].agents > 0
        for name, (key, unit) in ERRORS.items():
            value = found[key] if judged else np.nan
            yield Figure(f"{prefix}{name}/{label}", value, unit, protocol, REDUCTION, False)
        value = float(np.mean(list(found["ap"].values()))) if judged else np.nan
        yield Figure(f"{prefix}AP/{label}", value, "", protocol, "area under the precision-recall curve", True)
    # The reference has ten classes in both groupings, most of which have no agent in the coarser one.
    mean = sum(precisions) / (len(DETECTION_CATEGORIES) * len(matching.distances))
    value = mean if any(found.agents for found in matches.values()) else np.nan
    yield Figure(f"{prefix}{matching.mean_ap}", value, "", protocol, "mean over ten classes and all distances", True)


def _accuracies(matches: Mapping[Key, Matches], grouping: Grouping) -> Iterator[Figure]:
    protocol = f"ViP3D and UniAD, matched within 2 m, ends within 2 m; {grouping.meaning}"
    for label in grouping.classes:
        well, near = (
            matches.get(Key(grouping.prefix, label, EPA_METRES, final), Matches.merged(()))
            for final in (FINAL_METRES, None)
        )
        value = end_to_end_accuracy(well, near) if near.agents else np.nan
        yield Figure(f"{grouping.prefix}EPA/{label}", value, "", protocol, "ratio of sums over samples", True)


def _plot(values: Mapping[str, float]) -> Plot:
    classes = GROUPINGS[0].classes
    series = [Series(name, classes, [values[f"{name}/{label}"] for label in classes]) for name in ("minADE", "minFDE")]
    return Plot("displacement", "Forecasts of the objects that were found", "", "error (m)", series, PlotKind.BARS)


def _worst(measured: Measured) -> Ranking:
    """By the mean of where the best modes end, of the objects that were found."""
    badness = {}
    for (scene, index), sample in zip(measured.frames, measured.values, strict=True):
        keys = (Key(GROUPINGS[0].prefix, label, STANDARD.errors_at, None) for label in GROUPINGS[0].classes)
        ends = [end for key in keys if key in sample.matches for end in sample.matches[key].errors[:, 1]]
        if ends:
            badness[scene.frames[index].token] = float(np.mean(ends))
    return Ranking("forecast-error", "error at the end of forecasts", "m", badness)


def _notes(samples: Sequence[JudgedMotions]) -> Sequence[str]:
    without = [sample.without_forecast for sample in samples if sample.without_forecast]
    if not without:
        return ()
    return (
        f"{sum(without)} boxes in {len(without)} frame{'s' * (len(without) > 1)} have no forecast, being more than the "
        "model's capacity of agents; they are left out",
    )


METRIC = Metric(
    name="motion",
    meaning="errors, misses, EPA and precision of the forecasts of tracked objects",
    needs=("boxes", "ego_motion"),
    truth=("annotations",),
    open=lambda truth: measure,
    compute=compute,
)
