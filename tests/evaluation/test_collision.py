"""The collision optimisation, against the reference's solver and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plugins.planning.collision import obstacles_near, optimise
from plugins.planning.plugin import SUBMODULE
from tests.evaluation.conftest import Arrays
from tests.evaluation.judging import result_of
from toolkit.runtime.results import FrameResult, OccupancyResult, PlanResult

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


def refined(result: FrameResult) -> FrameResult:
    """What `--collision-optimisation` makes of a result."""
    [refinement] = SUBMODULE.refinements
    assert refinement.option == "--collision-optimisation"
    return refinement.apply(result)


def result_with(plan: np.ndarray, cells: np.ndarray) -> FrameResult:
    space = OccupancyResult(cells != 0, np.zeros(cells.shape, np.float32), 0.5, (-12.5, 12.5), (-12.5, 12.5))
    return result_of("moment", plan=PlanResult(plan, 0.5), occupancy=space)


@pytest.mark.parametrize("case", range(29))
def test_refined_results_have_the_plan_of_the_reference(golden_collisions: Arrays, case: int) -> None:
    """By the cells of the same result; everything else stays."""
    result = result_with(golden_collisions[f"c{case}.traj"], golden_collisions[f"c{case}.occ"])
    moved = refined(result)
    assert moved.plan is not None
    np.testing.assert_allclose(moved.plan.points, golden_collisions[f"c{case}.out"], rtol=0, atol=1e-3)
    assert (moved.plan.step_seconds, moved.occupancy) == (0.5, result.occupancy)


def test_results_that_lack_something_stay_as_they_are() -> None:
    """No plan, no occupancy, or one of another form."""
    result = result_with(PLAN, free())
    for lacking in (replace(result, plan=None), replace(result, occupancy=None), result_with(PLAN, free()[:3])):
        assert refined(lacking) is lacking
