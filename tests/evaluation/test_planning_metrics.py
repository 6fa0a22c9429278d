"""Distance and collisions of plans, against the reference and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from plugins.planning.evaluation import METRIC, judge
from plugins.planning.ground_truth import DrivenPath
from plugins.planning.metrics import averaged_over_time, footprint, plan_errors, planning_metrics
from tests.evaluation.conftest import Arrays
from tests.evaluation.judging import figures_of, result_of, truth_of, verdict_on
from tests.evaluation.judging import judge as judged
from tests.evaluation.scenes import Thing, frame_at, scene_with
from toolkit.data.frames import Command
from toolkit.data.ground_truth import Gap
from toolkit.runtime.results import OccupancyResult, PlanResult

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


@pytest.mark.parametrize("model", ["tiny", "base"])
def test_the_metric_gives_the_figures_of_the_reference(golden_plans: Arrays, model: str) -> None:
    """At the step over all samples; averaged over time over those whose driven path has six steps."""
    plans = [
        judge(PlanResult(plan, 0.5), DrivenPath(path, np.zeros(6), mask, Command.STRAIGHT, None), occupied)
        for plan, path, mask, occupied in zip(*inputs(golden_plans, model), strict=True)
    ]
    figures = figures_of(verdict_on(METRIC, plans))
    for name, scale in (("L2", 1), ("obj_col", 100), ("obj_box_col", 100)):
        at_steps, averaged = (scale * golden_plans[f"{model}.{kind}_{name}"] for kind in ("mean", "validonly_avg123"))
        found = [figures[f"{name}@{second}s"] for second in ("0.5", "1", "1.5", "2", "2.5", "3")]
        np.testing.assert_allclose(found, at_steps, rtol=0, atol=scale * 1e-6)
        assert figures[f"{name}@avg"] == pytest.approx(at_steps[[1, 3, 5]].mean(), abs=scale * 1e-6)
        found = [figures[f"ST-P3/{name}@{second}s"] for second in (1, 2, 3)]
        np.testing.assert_allclose(found, averaged, rtol=0, atol=scale * 1e-6)
        assert figures[f"ST-P3/{name}@avg"] == pytest.approx(averaged.mean(), abs=scale * 1e-6)


def test_plans_of_a_scene() -> None:
    """The vehicle stands, and so does the plan, but a metre to the right. Of eight key frames the last six lack a part
    of the driven path: of the eight samples two have a third second.
    """
    scene = scene_with([frame_at(0.5 * i, []) for i in range(8)])
    plan = PlanResult(np.full((6, 2), (1, 0), np.float32), 0.5)
    verdict, gaps = judged(METRIC, truth_of(scene), [result_of(frame.token, plan=plan) for frame in scene.frames])
    figures = figures_of(verdict)
    assert gaps == []
    assert (figures["L2@0.5s"], figures["L2@3s"], figures["ST-P3/L2@3s"]) == (7 / 8, 2 / 8, 1)
    assert verdict.notes == ["part of the driven path: missing in 6 frames, first frame1"]
    assert verdict.rankings[0].badness == {"frame0": 1.0, "frame0.5": 1.0}


@pytest.mark.parametrize(("half_width", "collides"), [(12.5, 100.0), (50.0, 0.0)])
def test_collisions_depend_on_where_the_model_s_grid_ends(half_width: float, collides: float) -> None:
    """A car beside the border of the smaller grid, 12 m to the right, and a plan that leaves it there."""
    scene = scene_with([frame_at(0.5 * i, [Thing(0, 1, -12)]) for i in range(7)])
    grid = np.zeros((5, round(4 * half_width), round(4 * half_width)), np.float32)
    space = OccupancyResult(grid > 0, grid, 0.5, (-half_width, half_width), (-half_width, half_width))
    plan = PlanResult(np.full((6, 2), (30, 0), np.float32), 0.5)
    results = [result_of(frame.token, plan=plan, occupancy=space) for frame in scene.frames]
    assert figures_of(judged(METRIC, truth_of(scene), results)[0])["ST-P3/obj_box_col@3s"] == collides


@pytest.mark.parametrize(("steps", "seconds"), [(5, 0.5), (6, 0.1)])
def test_another_kind_of_plan_is_a_gap(steps: int, seconds: float) -> None:
    plan = PlanResult(np.zeros((steps, 2), np.float32), seconds)
    scene = scene_with([frame_at(0, [])])
    verdict, gaps = judged(METRIC, truth_of(scene), [result_of("frame0", plan=plan)])
    assert gaps == [Gap("frame0", "a plan of 6 steps of 0.5 s")]
    assert all(np.isnan(value) for value in figures_of(verdict).values())


def test_plans_of_a_test_set_are_a_gap() -> None:
    scene = scene_with([frame_at(0, None)])
    plan = PlanResult(np.zeros((6, 2), np.float32), 0.5)
    assert judged(METRIC, truth_of(scene), [result_of("frame0", plan=plan)])[1] == [Gap("frame0", "annotations")]
