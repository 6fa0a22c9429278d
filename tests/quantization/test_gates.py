"""What gates see of a quantized network beside FP32's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from toolkit.quantization.gates import Finding, judge
from toolkit.quantization.seen import Cells, Seen

FRAMES = 8


def drive(**changes: Any) -> list[Seen]:
    """Ten cars in a row that keep their ids, some filled cells, a straight plan, a state that does not grow."""
    frame = Seen(
        True,
        ids=tuple(range(10)),
        labels=("car",) * 10,
        places=np.array([[10.0 * i, 0] for i in range(10)]),
        grids={"lanes": Cells(500, 10_000)},
        plan=np.array([[0, 1], [0, 2]], np.float32),
        norms={"memory": 1.0},
    )
    return [replace(frame, **changes) for _ in range(FRAMES)]


def failures(actual: list[Seen], expected: list[Seen] | None = None) -> list[str]:
    return [finding.subject for finding in judge(expected or drive(), actual) if not finding.holds]


def test_an_equal_drive_holds_every_gate() -> None:
    findings = judge(drive(), drive())
    assert [f.subject for f in findings] == ["finite values", "objects", "track ids", "lanes", "plan", "state 'memory'"]
    assert [f.severity for f in findings] == [0] * 6


def test_other_ids_hold_if_they_live_on() -> None:
    """One birth more shifts all later ids; what counts is that each follows the same object."""
    assert failures(drive(ids=tuple(range(100, 110)))) == []


def test_ids_that_change_from_frame_to_frame_fail() -> None:
    frames = [replace(frame, ids=tuple(range(10 * i, 10 * i + 10))) for i, frame in enumerate(drive())]
    assert failures(frames) == ["track ids"]


def test_ids_may_change_with_the_scene() -> None:
    frames = [replace(frame, ids=tuple(range(10 * (i // 4), 10 * (i // 4) + 10))) for i, frame in enumerate(drive())]
    frames[4] = replace(frames[4], continues=False)
    assert failures(frames, [replace(frame, continues=i != 4) for i, frame in enumerate(drive())]) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"ids": (), "labels": (), "places": np.zeros((0, 2))},
        {"labels": ("truck",) * 10},
        {"places": np.array([[10.0 * i, 3] for i in range(10)])},
        {"ids": tuple(range(12)), "labels": ("car",) * 12, "places": np.array([[10.0 * i, 0] for i in range(12)])},
    ],
    ids=["lost", "of another class", "elsewhere", "too many"],
)
def test_objects_must_be_found_again(changes: dict[str, Any]) -> None:
    assert failures(drive(**changes)) == ["objects"]


def test_a_grid_that_is_emptied_in_one_frame_fails() -> None:
    """Though the others make up for it in sum."""
    frames = drive(grids={"lanes": Cells(540, 10_000)})
    frames[3] = replace(frames[3], grids={"lanes": Cells(0, 10_000)})
    assert failures(frames) == ["lanes"]


@pytest.mark.parametrize(("filled", "held"), [(545, True), (455, True), (560, False), (440, False)])
def test_a_grid_may_change_by_a_tenth(filled: int, held: bool) -> None:
    assert (failures(drive(grids={"lanes": Cells(filled, 10_000)})) == []) is held


@pytest.mark.parametrize(("metres", "held"), [(0.09, True), (0.11, False)])
def test_the_plan_may_move_by_a_tenth_of_a_metre(metres: float, held: bool) -> None:
    assert (failures(drive(plan=np.array([[metres, 1], [metres, 2]], np.float32))) == []) is held


def test_a_state_that_grows_slowly_fails() -> None:
    """Though no frame stands out from the one before."""
    frames = [replace(frame, norms={"memory": 1.03**i}) for i, frame in enumerate(drive())]
    assert failures(frames) == ["state 'memory'"]


def test_a_state_that_is_off_from_the_start_does_not_drift() -> None:
    assert failures(drive(norms={"memory": 1.2})) == []


def test_nan_is_the_only_finding() -> None:
    frames = drive()
    frames[5] = Seen(True, broken=("memory",))
    [finding] = judge(drive(), frames)
    assert str(finding) == "finite values: NaN or infinity in 'memory' from frame 5 on (bound 0)"
    assert not finding.holds


def test_an_error_without_number_does_not_hold() -> None:
    assert not Finding("plan", float("nan"), 1.0, "").holds
