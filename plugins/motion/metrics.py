"""How well motions are forecast: the errors of matched forecasts, miss rate, EPA and mean average precision.

Matching and curves are those of nuScenes' detection evaluation (Caesar et al. 2020, section 3.1); EPA and the matching
that also asks for the final displacement are those of ViP3D (Gu et al. 2023), as UniAD uses them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MISS_METRES = 2.0
"""A forecast all of whose modes leave the true path by more than this at some step is a miss."""
FINAL_METRES = 2.0
"""How far the best mode may end from the truth where a match asks for it."""
EPA_METRES = 2.0
"""Between the centres of a match for EPA."""
FALSE_POSITIVE_WEIGHT = 0.5
RECALL = np.linspace(0, 1, 101)
LOWEST = 0.1
"""Below this recall or precision nothing counts."""
FIRST = round(100 * LOWEST) + 1
"""Index of the first recall that counts."""
ERRORS = ("min_ade", "min_fde", "miss_rate")


@dataclass(frozen=True)
class Forecasts:
    """K forecast agents: sample [K], class [K], centre [K, 2] in metres in any frame that they share with the truth,
    score [K], and their paths [K, modes, T, 2] in metres, each as a position at a step in a frame shared likewise.
    """

    sample: NDArray[Any]
    label: NDArray[Any]
    centre: NDArray[np.float64]
    score: NDArray[np.float64]
    path: NDArray[np.float64]


@dataclass(frozen=True)
class TrueMotions:
    """K true agents: sample [K], class [K], centre [K, 2], path [K, T, 2], of which the first `steps` [K] are known."""

    sample: NDArray[Any]
    label: NDArray[Any]
    centre: NDArray[np.float64]
    path: NDArray[np.float64]
    steps: NDArray[np.int64]


@dataclass(frozen=True)
class Matches:
    """Forecasts of one class, in descending order of score [P]: which found an agent, and the errors of those [M, 3].

    The columns are those of `ERRORS`; an agent without a future has none, and counts as 0. `agents` is how many there
    are to be found.
    """

    score: NDArray[np.float64]
    found: NDArray[np.bool_]
    errors: NDArray[np.float64]
    agents: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """Agents found, forecasts of none, and agents in all; nothing counts where none is found."""
        if not self.found.any():
            return 0, 0, 0
        return int(self.found.sum()), int((~self.found).sum()), self.agents

    @classmethod
    def merged(cls, parts: Iterable[Matches]) -> Matches:
        """Those of samples that were matched each for itself, in their order, as one: what `match` gives for all."""
        listed = list(parts)
        errors = [np.full((len(part.found), len(ERRORS)), np.nan) for part in listed]
        for rows, part in zip(errors, listed, strict=True):
            rows[part.found] = part.errors
        scores = [part.score for part in listed]
        # Of equal scores the later one is first, as in each part.
        score, found = (np.concatenate([[], *reversed(rows)]) for rows in (scores, [part.found for part in listed]))
        order = np.argsort(-score, kind="stable")
        found = found[order].astype(bool)
        sorted_errors = np.concatenate([np.zeros((0, len(ERRORS))), *reversed(errors)])[order]
        return cls(score[order], found, sorted_errors[found], sum(part.agents for part in listed))


def motion_metrics(
    forecasts: Forecasts,
    truth: TrueMotions,
    classes: Sequence[str],
    distances: Sequence[float] = (0.5, 1.0, 2.0, 4.0),
    errors_at: float = 2.0,
    *,
    final: float | None = None,
) -> dict[str, Any]:
    """Figures of each class, matched within each of `distances` (metres between centres).

    Returns by class `ap` (by distance), `min_ade` and `min_fde` (metres), `miss_rate` and `epa`, and `mean_ap` over all
    classes and distances. Errors are those of matches within `errors_at`, one of the distances, averaged over recall;
    1.0 where there are too few. A match also asks for a final displacement below `final` metres, if given: the mAP of
    UniAD's 'motion_map' is that within 1 m, its 'epa' that within 2 m, its 'standard' the one without.
    """
    result: dict[str, Any] = {}
    for label in classes:
        matches = {distance: match(forecasts, truth, label, distance, final) for distance in distances}
        result[label] = {
            **figures_of_matches(matches, errors_at),
            "epa": end_to_end_accuracy(
                match(forecasts, truth, label, EPA_METRES, FINAL_METRES), match(forecasts, truth, label, EPA_METRES)
            ),
        }
    result["mean_ap"] = float(np.mean([ap for label in classes for ap in result[label]["ap"].values()]))
    return result


def figures_of_matches(matches: Mapping[float, Matches], errors_at: float) -> dict[str, Any]:
    """`ap`, `min_ade`, `min_fde` and `miss_rate` of a class, matched within each distance, as in `motion_metrics`."""
    curves = {distance: _Curve.of(found) for distance, found in matches.items()}
    return {
        "ap": {distance: curve.average_precision() for distance, curve in curves.items()},
        **dict(zip(ERRORS, curves[errors_at].errors_over_recall(), strict=True)),
    }


def end_to_end_accuracy(well: Matches, near: Matches) -> float:
    """EPA of a class: agents found with a good forecast, less half the forecasts of no agent, as a share of all.

    Takes the matches within `EPA_METRES`, those that also end near enough and those of any end.
    """
    good, _, agents = well.counts
    _, invented, all_agents = near.counts
    if not agents or not all_agents:
        return 0.0
    return (good - FALSE_POSITIVE_WEIGHT * invented) / (all_agents + 1e-5)


def match(forecasts: Forecasts, truth: TrueMotions, label: str, distance: float, final: float | None = None) -> Matches:
    """Give each forecast of a class, best score first, the nearest agent of its sample that none has yet.

    Of equal scores the later one is first. It must be nearer than `distance`, and with `final` the best mode must end
    nearer to the agent's last known position than that.
    """
    agents: dict[Any, list[int]] = {}
    for index in np.flatnonzero(truth.label == label):
        agents.setdefault(truth.sample[index], []).append(int(index))
    own = np.flatnonzero(forecasts.label == label)[::-1]
    order = own[np.argsort(-forecasts.score[own], kind="stable")]
    taken: set[int] = set()
    found, errors = np.zeros(len(order), bool), []
    for position, index in enumerate(order):
        free = [agent for agent in agents.get(forecasts.sample[index], ()) if agent not in taken]
        if not free:
            continue
        away = np.linalg.norm(truth.centre[free] - forecasts.centre[index], axis=-1)
        nearest = free[int(away.argmin())]
        if away.min() >= distance:
            continue
        error = path_errors(forecasts.path[index], truth.path[nearest][: truth.steps[nearest]])
        if final is not None and not (truth.steps[nearest] and error[1] < final):
            continue
        taken.add(nearest)
        found[position] = True
        errors.append(error)
    return Matches(forecasts.score[order], found, np.reshape(errors, (-1, len(ERRORS))), sum(map(len, agents.values())))


def path_errors(modes: NDArray[np.float64], path: NDArray[np.float64]) -> tuple[float, float, float]:
    """minADE and minFDE in metres, each of its own best mode, and 1 for a miss; modes [M, T, 2], known path [S, 2]."""
    if not len(path):
        return 0.0, 0.0, 0.0
    away = np.linalg.norm(modes[:, : len(path)] - path, axis=-1)
    return float(away.mean(1).min()), float(away[:, -1].min()), float(away.max(1).min() > MISS_METRES)


@dataclass(frozen=True)
class _Curve:
    """Precision, score and errors [101, 3] over recall 0, 0.01 … 1."""

    precision: NDArray[np.float64]
    score: NDArray[np.float64]
    errors: NDArray[np.float64]

    @classmethod
    def of(cls, matches: Matches) -> _Curve:
        if not matches.found.any():
            return cls(np.zeros(len(RECALL)), np.zeros(len(RECALL)), np.ones((len(RECALL), len(ERRORS))))
        found, invented = np.cumsum(matches.found), np.cumsum(~matches.found)
        recall = found / matches.agents
        precision = np.interp(RECALL, recall, found / (found + invented), right=0)
        score = np.interp(RECALL, recall, matches.score, right=0)
        running = matches.errors.cumsum(0) / np.arange(1, len(matches.errors) + 1)[:, None]
        scores = matches.score[matches.found]
        errors = [np.interp(score[::-1], scores[::-1], column[::-1])[::-1] for column in running.T]
        return cls(precision, score, np.stack(errors, -1))

    def average_precision(self) -> float:
        """The area under the curve beyond the lowest recall and precision, as a share of what it can be."""
        return float(np.maximum(self.precision[FIRST:] - LOWEST, 0).mean() / (1 - LOWEST))

    def errors_over_recall(self) -> list[float]:
        """Means of the errors from the lowest recall that counts to the highest that is reached; 1.0 without any."""
        reached = np.flatnonzero(self.score)
        last = int(reached[-1]) if len(reached) else 0
        if last < FIRST:
            return [1.0] * len(ERRORS)
        means: list[float] = self.errors[FIRST : last + 1].mean(0).tolist()
        return means


MOTION_CATEGORIES: Mapping[str, str] = {
    **dict.fromkeys(("car", "truck", "construction_vehicle", "bus", "trailer", "motorcycle", "bicycle"), "car"),
    "pedestrian": "pedestrian",
    "barrier": "barrier",
    "traffic_cone": "barrier",
}
"""The coarser of the two groupings in which UniAD reports: every vehicle counts as a car."""
