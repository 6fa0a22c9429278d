"""Distance and collisions of plans, against the reference and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from plugins.planning.metrics import averaged_over_time, footprint, plan_errors, planning_metrics
from tests.evaluation.conftest import Arrays

STILL = np.zeros((1, 6, 2))
"""A plan that stays where it is."""


def inputs(arrays: Arrays, model: str) -> list[np.ndarray]:
    return [arrays[f"{model}.{name}"] for name in ("pred", "gt", "mask", "seg")]


@pytest.mark.parametrize("model", ["tiny", "base"])
def test_samples_of_the_reference(golden_plans: Arrays, model: str) -> None:
    """Every collision is the same; distances are computed in FP32 on both sides, of up to 30 m."""
    errors = plan_errors(*inputs(golden_plans, model))
    np.testing.assert_array_equal(errors.point_collides, golden_plans[f"{model}.per_sample_obj_col"] == 1)
    np.testing.assert_array_equal(errors.box_collides, golden_plans[f"{model}.per_sample_obj_box_col"] == 1)
    np.testing.assert_allclose(errors.l2, golden_plans[f"{model}.per_sample_L2"], rtol=2e-7, atol=1e-7)


@pytest.mark.parametrize("model", ["tiny", "base"])
@pytest.mark.parametrize("name", ["L2", "obj_col", "obj_box_col"])
def test_figures_of_the_reference(golden_plans: Arrays, model: str, name: str) -> None:
    """At each step, and averaged over time as ST-P3 and VAD do."""
    figures = planning_metrics(*inputs(golden_plans, model))[name]
    np.testing.assert_allclose(figures, golden_plans[f"{model}.mean_{name}"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(averaged_over_time(figures), golden_plans[f"{model}.avg123_{name}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("model", "size"), [("tiny", 50), ("base", 200)])
def test_footprint_of_the_reference(golden_plans: Arrays, model: str, size: int) -> None:
    """Eight rows and four columns."""
    rows, columns = footprint(size).T
    assert sorted(set(rows)) == sorted(set(golden_plans[f"{model}.ego_rows_forward"]))
    assert sorted(set(columns)) == sorted(set(golden_plans[f"{model}.ego_cols_right"]))


def test_plan_that_is_the_ground_truth() -> None:
    figures = planning_metrics(STILL, STILL, np.ones((1, 6, 2)), np.zeros((1, 6, 50, 50), np.uint8))
    assert {name: values.tolist() for name, values in figures.items()} == dict.fromkeys(figures, [0.0] * 6)


def test_plan_that_is_three_and_four_metres_off() -> None:
    """Five metres; a step without ground truth counts as none, but in the denominator."""
    mask = np.ones((2, 6, 2))
    mask[1, 5] = 0
    plans = np.broadcast_to([3.0, 4.0], (2, 6, 2))
    figures = planning_metrics(plans, np.zeros((2, 6, 2)), mask, np.zeros((2, 6, 50, 50), np.uint8))
    assert figures["L2"].tolist() == [5, 5, 5, 5, 5, 2.5]


def test_plan_into_an_obstacle() -> None:
    """An obstacle ten metres ahead at the third step: reached by the plan, not by the ground truth."""
    occupied = np.zeros((1, 6, 50, 50), np.uint8)
    occupied[0, 2, 45, 25] = 1
    plan = STILL.copy()
    plan[0, 2] = 0.3, 10.3
    figures = planning_metrics(plan, STILL, np.ones((1, 6, 2)), occupied)
    assert figures["obj_col"].tolist() == figures["obj_box_col"].tolist() == [0, 0, 1, 0, 0, 0]


def test_collisions_of_the_ground_truth_do_not_count() -> None:
    """The true path touches the obstacle too: nobody is to blame."""
    occupied = np.zeros((1, 6, 50, 50), np.uint8)
    occupied[0, :, 25, 25] = 1
    figures = planning_metrics(STILL, STILL, np.ones((1, 6, 2)), occupied)
    assert figures["obj_box_col"].tolist() == [0] * 6


def test_points_beyond_the_grid_meet_nothing_but_footprints_meet_its_border() -> None:
    occupied = np.zeros((1, 6, 50, 50), np.uint8)
    occupied[0, :, 49] = 1
    plan = STILL + np.array([0.0, 40.0])
    figures = planning_metrics(plan, STILL, np.ones((1, 6, 2)), occupied)
    assert figures["obj_col"].tolist() == [0] * 6
    assert figures["obj_box_col"].tolist() == [1] * 6


def test_headings_are_ignored() -> None:
    plan = np.concatenate((STILL, np.full((1, 6, 1), 0.7)), -1)
    figures = planning_metrics(plan, plan, np.ones((1, 6, 2)), np.zeros((1, 6, 50, 50), np.uint8))
    assert figures["L2"].tolist() == [0] * 6


def test_no_samples() -> None:
    empty = planning_metrics(
        np.zeros((0, 6, 2)), np.zeros((0, 6, 2)), np.zeros((0, 6, 2)), np.zeros((0, 6, 50, 50), np.uint8)
    )
    assert all(np.isnan(values).all() for values in empty.values())


def test_arrays_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="do not fit to a plan"):
        planning_metrics(STILL, STILL, np.ones((1, 5, 2)), np.zeros((1, 6, 50, 50), np.uint8))
