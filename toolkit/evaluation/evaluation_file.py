"""What an evaluation found, and its file form, metrics.json."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.data.decoder import Decoder
from toolkit.data.ground_truth import GapCount
from toolkit.evaluation.metric import Plot, PlotKind, Verdict
from toolkit.storage.claims import FileOutput
from toolkit.storage.files import is_file_name
from toolkit.storage.json_file import read_format, refusing
from toolkit.storage.outputs import new_file
from toolkit.storage.typed import Count, Misfit, Text, decode
from toolkit.text import quoted

EVALUATION = "metrics.json"
PLOTS, WORST, SUBMISSION = "plots", "worst", "submission"
"""Folders beside it: pictures, and what metrics write for other programs."""
_FORMAT = 1
_REMEDY = "evaluate again"
_WORST = 10
"""Frames that are kept of a ranking."""


@dataclass(frozen=True)
class FoundFigure:
    """As `Figure`, but `name` is the full one, such as "planning/L2@3s", and None stands for NaN."""

    name: Text
    value: float | None
    unit: str
    protocol: str
    reduction: str
    higher_is_better: bool


@dataclass(frozen=True)
class BadFrame:
    """A frame, by its token, and how bad it is."""

    token: Text
    badness: float


@dataclass(frozen=True)
class WorstFrames:
    """The head of a `Ranking`: the worst frames in one respect, the worst first."""

    name: Text
    title: str
    unit: str
    frames: tuple[BadFrame, ...]


@dataclass(frozen=True)
class MetricFindings:
    """What a metric found in the `frames` that it could judge. `gaps` say what kept it from judging others."""

    name: Text
    frames: Count
    figures: tuple[FoundFigure, ...]
    gaps: tuple[GapCount, ...]
    notes: tuple[str, ...]
    plots: tuple[Plot, ...]
    worst: tuple[WorstFrames, ...]


@dataclass(frozen=True)
class Evaluation:
    """How well a bundle (`Bundle.identity`) drove in a session and precision, judged by the data at an address.

    `frames` of the data have results; `missing` counts the others. `refinements` are the options that changed results
    before they were judged, `decoder` made pixels of the pictures that the bundle saw, `toolkit` names the version that
    judged.
    """

    toolkit: Text
    data: Text
    bundle: Text
    session: Text
    precision: Text
    refinements: tuple[Text, ...]
    frames: Count
    missing: tuple[GapCount, ...]
    metrics: tuple[MetricFindings, ...]
    decoder: Text = Decoder.OPENCV.value

    @property
    def figures(self) -> Mapping[str, FoundFigure]:
        """The figures of all metrics by their full names."""
        return {figure.name: figure for metric in self.metrics for figure in metric.figures}


def plot_file(metric: str, plot: str) -> str:
    """The name of a plot's picture."""
    return f"{metric}-{plot}.png"


def frame_file(metric: str, ranking: str, place: int, token: str) -> str:
    """The name of the picture of the frame that has a place in a ranking, the worst the first."""
    return f"{metric}-{ranking}_{place}_{token}.png"


def found(metric: str, frames: int, verdict: Verdict, gaps: Sequence[GapCount] = ()) -> MetricFindings:
    """A metric's verdict as it is kept. Raises Misfit for one that says other than its types, or a thing twice."""
    figures = [asdict(figure) | {"name": f"{metric}/{figure.name}"} for figure in verdict.figures]
    worst = [
        {"name": ranking.name, "title": ranking.title, "unit": ranking.unit, "frames": _worst(ranking.badness)}
        for ranking in verdict.rankings
    ]
    document = {
        "name": metric,
        "frames": frames,
        "figures": figures,
        "gaps": [asdict(gap) for gap in gaps],
        "notes": verdict.notes,
        "plots": [asdict(plot) for plot in verdict.plots],
        "worst": worst,
    }
    findings = decode(MetricFindings, _plain(document))
    _require_sense(findings, "$")
    return findings


def write_evaluation(evaluation: Evaluation, output: FileOutput | Path) -> None:
    """Write metrics.json. Raises InputError if that is not possible."""
    document = {"format": _FORMAT, **asdict(evaluation)}
    with new_file(output) as work:
        work.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_evaluation(path: Path) -> Evaluation:
    """What `write_evaluation` wrote: such a file, or the folder of it. Raises InputError for another, or a damaged one.

    Sequences come back as lists where their type is not a tuple.
    """
    path = path / EVALUATION if path.is_dir() else path
    document = read_format(path, _FORMAT, _REMEDY)
    with refusing(path, _REMEDY, "is no evaluation of `evaluate`"):
        evaluation = decode(Evaluation, document)
        _require_unique("$.metrics", [metric.name for metric in evaluation.metrics])
        for i, metric in enumerate(evaluation.metrics):
            _require_sense(metric, f"$.metrics[{i}]")
    return evaluation


def _plain(value: Any) -> Any:
    """As JSON would have it: lists, numbers of Python, null for NaN."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _worst(badness: Mapping[str, float]) -> list[dict[str, Any]]:
    """The frames that are kept, the worst first; of those that are equally bad the first ones."""
    known = [(token, value) for token, value in badness.items() if not math.isnan(value)]
    known.sort(key=lambda item: item[1], reverse=True)
    return [{"token": token, "badness": value} for token, value in known[:_WORST]]


def _require_sense(metric: MetricFindings, place: str) -> None:
    """Raise Misfit for names that are there twice or from which no file can be named, and for halves of points."""
    for i, figure in enumerate(metric.figures):
        if not figure.name.startswith(f"{metric.name}/"):
            raise Misfit(f"{place}.figures[{i}].name", f"expected {metric.name}/…, found {quoted(figure.name)}")
    for kind in ("figures", "plots", "worst"):
        _require_unique(f"{place}.{kind}", [item.name for item in getattr(metric, kind)])
    for i, plot in enumerate(metric.plots):
        where = f"{place}.plots[{i}]"
        _require_file_name(plot_file(metric.name, plot.name), f"{where}.name", plot.name)
        for k, series in enumerate(plot.series):
            if len(series.x) != len(series.y):
                counts = f"{len(series.x)} and {len(series.y)}"
                raise Misfit(f"{where}.series[{k}]", f"expected as many numbers in y as in x, found {counts}")
            words = [x for x in series.x if isinstance(x, str)] if plot.kind is PlotKind.LINES else []
            if words:
                raise Misfit(f"{where}.series[{k}].x", f"expected numbers in a plot of lines, found {quoted(words[0])}")
    for i, ranking in enumerate(metric.worst):
        for k, frame in enumerate(ranking.frames):
            name = frame_file(metric.name, ranking.name, k + 1, frame.token)
            _require_file_name(name, f"{place}.worst[{i}].frames[{k}]", f"{ranking.name}, {frame.token}")


def _require_file_name(name: str, place: str, given: str) -> None:
    if not is_file_name(name):
        raise Misfit(place, f"expected what can be part of a file's name, found {quoted(given)}")


def _require_unique(place: str, names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise Misfit(place, f"holds the name {quoted(name)} twice")
