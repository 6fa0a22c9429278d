"""What two sessions decide about one frame, in the terms of a driver: objects, occupied cells, the planned path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from toolkit.specs import Role, TensorSpec
from toolkit.verification.comparison import Arrays

ByRole = Mapping[Role | None, np.ndarray]

OBJECTS = {Role.OBJECT_COUNT, Role.OBJECT_IDS, Role.OBJECT_LABELS, Role.OBJECT_BOXES}


@dataclass(frozen=True)
class TrackDecisions:
    """Reported objects of both sessions, matched by id.

    `relabelled` and `reordered` count matched objects of another class or at another rank; `moved` is the largest
    distance between the centres of matched objects, in metres.
    """

    expected: int
    actual: int
    matched: int
    relabelled: int
    reordered: int
    moved: float


@dataclass(frozen=True)
class OccupancyDecisions:
    """Occupied cells of both sessions, and cells in which they differ, of `cells` in all."""

    expected: int
    actual: int
    flipped: int
    cells: int


@dataclass(frozen=True)
class PlanDecisions:
    """Lengths of both planned paths from the ego on, and the largest distance between their points, in metres."""

    expected: float
    actual: float
    moved: float


@dataclass(frozen=True)
class Decisions:
    """All decisions of one frame; None where the network does not take them or the session does not show them."""

    frame: int
    tracks: TrackDecisions | None
    occupancy: OccupancyDecisions | None
    plan: PlanDecisions | None


def decide(frame: int, specs: Iterable[TensorSpec], expected: Arrays, actual: Arrays) -> Decisions:
    """Read the decisions of one frame out of both sessions' outputs, by the roles of `specs`."""
    names = {spec.role: spec.name for spec in specs if spec.name in expected and spec.name in actual}
    ours, theirs = ({role: outputs[name] for role, name in names.items()} for outputs in (expected, actual))
    return Decisions(
        frame,
        tracks=_tracks(ours, theirs) if ours.keys() >= OBJECTS else None,
        occupancy=_occupancy(ours[Role.OCCUPANCY], theirs[Role.OCCUPANCY]) if Role.OCCUPANCY in ours else None,
        plan=_plan(ours[Role.PLAN], theirs[Role.PLAN]) if Role.PLAN in ours else None,
    )


def _tracks(expected: ByRole, actual: ByRole) -> TrackDecisions:
    counts = [int(outputs[Role.OBJECT_COUNT][0]) for outputs in (expected, actual)]
    ranks, others = (
        {int(track): rank for rank, track in enumerate(outputs[Role.OBJECT_IDS][:count])}
        for outputs, count in zip((expected, actual), counts, strict=True)
    )
    matched = [track for track in ranks if track in others]
    rows, partners = [ranks[track] for track in matched], [others[track] for track in matched]
    places = expected[Role.OBJECT_BOXES][rows, :3] - actual[Role.OBJECT_BOXES][partners, :3]
    distances = np.linalg.norm(places, axis=1)
    labels, other_labels = expected[Role.OBJECT_LABELS][rows], actual[Role.OBJECT_LABELS][partners]
    return TrackDecisions(
        expected=counts[0],
        actual=counts[1],
        matched=len(matched),
        relabelled=int(np.count_nonzero(labels != other_labels)),
        # Ranks among the matched ones: one object less does not reorder those behind it.
        reordered=int(np.count_nonzero(np.argsort(partners) != np.arange(len(partners)))),
        moved=float(distances.max(initial=0)),
    )


def _occupancy(expected: np.ndarray, actual: np.ndarray) -> OccupancyDecisions:
    return OccupancyDecisions(
        expected=int(np.count_nonzero(expected)),
        actual=int(np.count_nonzero(actual)),
        flipped=int(np.count_nonzero(expected != actual)),
        cells=expected.size,
    )


def _plan(expected: np.ndarray, actual: np.ndarray) -> PlanDecisions:
    with np.errstate(invalid="ignore"):
        moved = np.linalg.norm(expected - actual, axis=-1)
    return PlanDecisions(_path_length(expected), _path_length(actual), float(moved.max(initial=0)))


def _path_length(points: np.ndarray) -> float:
    """Metres along points [steps, 2] that start one step away from the origin."""
    with np.errstate(invalid="ignore"):  # a path of non-finite points has no length
        steps = np.diff(points.astype(np.float64), axis=0, prepend=0)
    return float(np.linalg.norm(steps, axis=1).sum())
