"""What two sessions decide about a frame, and the gates that hold at every precision."""

from __future__ import annotations

import numpy as np
import pytest

from tests.joined import official_graph
from toolkit.verification.decisions import (
    Decisions,
    OccupancyDecisions,
    PlanDecisions,
    TrackDecisions,
    decide,
)
from toolkit.verification.gates import check_gates

Arrays = dict[str, np.ndarray]
SPECS = official_graph().results


def tracks(ids: list[int], labels: list[int], x: list[float]) -> Arrays:
    """Reported objects on the x axis, best first, padded to five."""
    count = len(ids)
    boxes = np.zeros((5, 9), np.float32)
    boxes[:count, 0] = x
    return {
        "box_count": np.array([count], np.int32),
        "box_ids": np.array(ids + [0] * (5 - count), np.int32),
        "box_labels": np.array(labels + [0] * (5 - count), np.int32),
        "boxes": boxes,
    }


def track_decisions(expected: Arrays, actual: Arrays) -> TrackDecisions:
    decisions = decide(0, SPECS, expected, actual).tracks
    assert decisions is not None
    return decisions


def test_objects_are_matched_by_id() -> None:
    """Object 3 has moved, 4 is a bus now, 5 is lost and 6 new; 3 and 4 keep their order."""
    expected = tracks([3, 5, 4], [0, 0, 0], [10, 20, 30])
    actual = tracks([3, 4, 6], [0, 3, 0], [10.5, 30, 40])
    assert track_decisions(expected, actual) == TrackDecisions(3, 3, matched=2, relabelled=1, reordered=0, moved=0.5)


def test_exchanged_ids() -> None:
    """Look like two objects that have jumped and traded ranks."""
    expected = tracks([3, 4], [0, 8], [10, 30])
    actual = tracks([4, 3], [0, 8], [10, 30])
    assert track_decisions(expected, actual) == TrackDecisions(2, 2, matched=2, relabelled=2, reordered=2, moved=20)


def test_no_objects() -> None:
    empty = tracks([], [], [])
    assert track_decisions(empty, empty) == TrackDecisions(0, 0, matched=0, relabelled=0, reordered=0, moved=0)


def test_occupancy_and_plan() -> None:
    cells = np.zeros((5, 50, 50), np.int32)
    cells[0, :2, :2] = 1
    other = np.roll(cells, 1, axis=1)
    path = np.array([[0, 3], [4, 3]], np.float32)
    detour = np.array([[0, 3], [4, 6]], np.float32)
    decisions = decide(7, SPECS, {"occupancy": cells, "plan": path}, {"occupancy": other, "plan": detour})
    occupancy = OccupancyDecisions(4, 4, flipped=4, cells=12500)
    assert decisions == Decisions(7, None, occupancy, PlanDecisions(expected=7, actual=8, moved=3))


def test_a_session_that_shows_less() -> None:
    assert decide(0, SPECS, {"plan": np.zeros((6, 2))}, {}) == Decisions(0, None, None, None)


@pytest.mark.parametrize(
    ("decisions", "gates"),
    [
        (Decisions(0, None, OccupancyDecisions(900, 0, 900, 12500), None), ["occupancy"]),
        (Decisions(0, None, OccupancyDecisions(20, 0, 20, 12500), None), []),
        (Decisions(0, None, OccupancyDecisions(0, 900, 900, 12500), None), []),
        (Decisions(0, TrackDecisions(40, 35, 35, 0, 0, 0), None, None), ["number of tracks"]),
        (Decisions(0, TrackDecisions(40, 36, 36, 0, 0, 0), None, None), []),
        (Decisions(0, TrackDecisions(2, 1, 1, 0, 0, 0), None, None), []),
        (Decisions(0, None, None, PlanDecisions(20, 0, 20)), ["plan length"]),
        (Decisions(0, None, None, PlanDecisions(20, 18.1, 1)), []),
        (Decisions(0, None, None, PlanDecisions(0.1, 0.5, 1)), []),
        (Decisions(0, None, None, None), []),
    ],
    ids=["empty occupancy", "few cells", "more occupancy", "tracks lost", "a tenth of the tracks", "one track",
         "plan collapsed", "a tenth of the plan", "standing still", "nothing decided"],
)  # fmt: skip
def test_gates(decisions: Decisions, gates: list[str]) -> None:
    assert [failure.gate for failure in check_gates(decisions, (), ({}, {}), ("torch", "engine"))] == gates


def test_gate_says_what_is_wrong() -> None:
    decisions = Decisions(3, None, OccupancyDecisions(900, 0, 900, 12500), None)
    [failure] = check_gates(decisions, (), ({}, {}), ("torch", "engine"))
    assert (failure.frame, failure.reason) == (3, "empty, where 900 cells of the reference's are occupied")
