"""The collision optimisation, against the reference's solver and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from plugins.planning.collision import obstacles_near, optimise
from tests.evaluation.conftest import Arrays

PLAN = np.stack((np.zeros(6), np.arange(1, 7)), -1).astype(np.float32)


def free() -> np.ndarray:
    return np.zeros((5, 50, 50), np.uint8)


@pytest.mark.parametrize("case", range(29))
def test_case_of_the_reference(golden_collisions: Arrays, case: int) -> None:
    """Within a millimetre of IPOPT's optimum, which is exact to its tolerance of 1e-8."""
    moved = optimise(golden_collisions[f"c{case}.traj"], golden_collisions[f"c{case}.occ"])
    np.testing.assert_allclose(moved, golden_collisions[f"c{case}.out"], rtol=0, atol=1e-3)


def test_obstacles_of_the_reference(golden_collisions: Arrays) -> None:
    for case in range(29):
        plan, frames = golden_collisions[f"c{case}.traj"], golden_collisions[f"c{case}.occ"]
        near = [obstacles_near(point, frames[min(step, 4)]) for step, point in enumerate(plan, start=1)]
        assert [len(places) for places in near] == golden_collisions[f"c{case}.n_points"].tolist()
        found = np.concatenate(near)
        expected = golden_collisions[f"c{case}.points"].reshape(-1, 2)
        assert sorted(map(tuple, found)) == sorted(map(tuple, expected))


def test_free_road_changes_nothing() -> None:
    np.testing.assert_array_equal(optimise(PLAN, free()), PLAN)


def test_what_is_occupied_now_and_far_away_changes_nothing() -> None:
    """The first frame is the present, in which the plan has not begun."""
    occupied = free()
    occupied[0] = 1
    occupied[:, :, 40:] = 1
    np.testing.assert_array_equal(optimise(PLAN, occupied), PLAN)


def test_an_obstacle_ahead_pushes_its_step_back_alone() -> None:
    occupied = free()
    occupied[2, 31, 25] = 1
    moved = optimise(PLAN, occupied)
    assert moved[1, 1] < PLAN[1, 1]
    np.testing.assert_array_equal(np.delete(moved, 1, 0), np.delete(PLAN, 1, 0))


@pytest.mark.parametrize("shape", [(1, 5, 50, 50), (1, 5, 1, 50, 50)])
def test_axes_of_the_network(shape: tuple[int, ...]) -> None:
    occupied = free()
    occupied[1:, 27, 26] = 1
    np.testing.assert_array_equal(optimise(PLAN, occupied.reshape(shape)), optimise(PLAN, occupied))


def test_arrays_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"are no \[T, 2\] and \[5, n, n\]"):
        optimise(PLAN, np.zeros((4, 50, 50)))
