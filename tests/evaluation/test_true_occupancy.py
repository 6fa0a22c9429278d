"""Occupied cells, against the reference and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from plugins.occupancy.ground_truth import InstanceGrids, instance_grids
from tests.evaluation.conftest import Arrays, Located
from tests.evaluation.scenes import Thing, frame_at, scene_with
from toolkit.data.ground_truth import Gap

CELLS_OF_NOISE = 4
"""Of 2.8 million: a corner that lies 3e-5 cells from a border of cells, which FP32 rounds to the other side."""


def grids_of(located: Located, size: int) -> InstanceGrids:
    grids = instance_grids(located.scene, located.index, size=size)
    assert isinstance(grids, InstanceGrids)
    return grids


@pytest.mark.parametrize(("grid", "size"), [("tiny", 50), ("base", 200)])
def test_cells_of_the_reference(golden_frames: list[Located], golden_grids: Arrays, grid: str, size: int) -> None:
    other_instance = other_state = 0
    for located in golden_frames:
        golden = f"{grid}.{located.prefix}"
        if f"{golden}.instance" in golden_grids:
            grids = grids_of(located, size)
            other_instance += int(np.count_nonzero(grids.instances != golden_grids[f"{golden}.instance"]))
            other_state += int(np.count_nonzero(grids.segmentation != golden_grids[f"{golden}.segmentation"]))
            np.testing.assert_array_equal(grids.known, golden_grids[f"{golden}.img_is_valid"])
            assert (grids.gap is not None) == golden_grids[f"{golden}.has_invalid_frame"]
    assert other_instance <= CELLS_OF_NOISE
    assert other_state <= CELLS_OF_NOISE


def grids_around(*things: Thing, frames: int = 9, index: int = 2) -> InstanceGrids:
    grids = instance_grids(scene_with([frame_at(0.5 * i, things) for i in range(frames)]), index)
    assert isinstance(grids, InstanceGrids)
    return grids


def covered(grid: np.ndarray, number: int) -> tuple[slice, slice]:
    rows, columns = np.nonzero(grid == number)
    return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


def test_a_car_ahead() -> None:
    """Ten metres ahead of the ego, nine of the LiDAR: 7 to 11 m ahead and 1 m to each side. Cell 25 begins at 0, and
    the cells that begin where the car ends belong to it.
    """
    grids = grids_around(Thing(number=41, x=10, y=0))
    rows, columns = slice(25 + 14, 25 + 22 + 1), slice(25 - 2, 25 + 2 + 1)
    assert covered(grids.instances[0], 42) == (rows, columns)
    assert np.count_nonzero(grids.instances[0]) == 9 * 5
    assert (grids.segmentation == (grids.instances == 42)).all()


def test_where_the_ego_will_be_cells_are_still_those_of_now() -> None:
    """The car stands; the ego turns and drives, but the grid stays where it was."""
    car = [Thing(0, 10, 0)]
    frames = [frame_at(0.5 * i, car, x=max(i - 2, 0), yaw=0.1 * max(i - 2, 0)) for i in range(9)]
    grids = instance_grids(scene_with(frames), 2)
    assert isinstance(grids, InstanceGrids)
    assert (grids.instances == grids.instances[0]).all()


def test_pedestrians_never_count() -> None:
    assert not grids_around(Thing(0, 10, 0, label="pedestrian"), Thing(1, 5, 5, label="barrier")).instances.any()


def test_of_two_that_overlap_the_later_is_seen() -> None:
    grids = grids_around(Thing(0, 6, 0), Thing(1, 8, 0))
    rows, _ = covered(grids.instances[0], 1)
    assert rows == slice(25 + 6, 25 + 10)
    assert covered(grids.instances[0], 2)[0] == slice(25 + 10, 25 + 19)


def test_the_instance_that_would_read_as_unknown_has_another_number() -> None:
    assert np.unique(grids_around(Thing(254, 10, 0)).instances).tolist() == [-20, 0]


def test_what_is_beyond_the_end_of_a_scene_is_unknown() -> None:
    """The plan is judged by six frames ahead, occupancy by four."""
    complete = grids_around(frames=9)
    assert complete.known.all()
    assert complete.gap is None
    short = grids_around(frames=7)
    assert short.known.tolist() == [True] * 7 + [False] * 2
    assert (short.instances[5:] == 255).all()
    assert (short.segmentation[5:] == 255).all()
    assert short.gap is None
    assert grids_around(frames=6).gap == Gap("frame1", "some of two key frames before and four after")
    assert grids_around(frames=9, index=1).gap is not None


def test_frames_of_a_test_set_are_a_gap() -> None:
    assert instance_grids(scene_with([frame_at(0, None)]), 0) == Gap("frame0", "annotations")
