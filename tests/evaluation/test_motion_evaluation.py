"""The metric of motions on typed results, against the reference and by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plugins.motion.evaluation import GROUPINGS, METRIC
from plugins.motion.judged import judged_forecasts
from plugins.motion.metrics import MOTION_CATEGORIES, Forecasts
from tests.evaluation.conftest import Located
from tests.evaluation.golden_results import golden_result
from tests.evaluation.judging import figures_of, judge, result_of, truth_of
from tests.evaluation.scenes import Thing, frame_at, scene_with
from toolkit.data.ground_truth import AnnotatedScene, Gap
from toolkit.runtime.results import FrameResult, MotionModes, TrackedBox

PREFIXES = {"standard": "", "motion_map": "motion-map/", "epa": "epa/"}
SHARES = np.full(6, 1 / 6, np.float32)
EGO = MotionModes(np.zeros((6, 12, 2), np.float32), SHARES, 0.5)
ROUNDING = 2e-6
"""Positions reach the reference's submission in FP32: 1.2e-7 m between centres, 2e-6 m along forecasts of 50 m."""


@pytest.fixture(scope="module")
def golden_results(golden_evaluation: Path, golden_frames: list[Located]) -> list[FrameResult]:
    """What the network gave, as results."""
    outputs = dict(np.load(golden_evaluation / "network_outputs.npz"))
    return [replace(golden_result(outputs, located), ego_motion=EGO) for located in golden_frames]


@pytest.fixture(scope="module")
def golden_figures(golden_frames: list[Located], golden_results: list[FrameResult]) -> dict[str, float]:
    scenes = tuple({located.scene.name: located.scene for located in golden_frames}.values())
    verdict, gaps = judge(METRIC, truth_of(*scenes), golden_results)
    assert gaps == []
    return figures_of(verdict)


@pytest.mark.parametrize("run", range(6))
def test_run_of_the_reference(golden_evaluation: Path, golden_figures: dict[str, float], run: int) -> None:
    """Every figure of both groupings under all three matchings, from what the network gave."""
    golden = json.loads((golden_evaluation / "eval_metrics.json").read_text())["motion"][run]
    coarse, fine = GROUPINGS
    grouping = coarse if golden["category"] == "motion_category" else fine
    prefix = grouping.prefix + PREFIXES[golden["eval_mode"]]
    for label in grouping.classes:
        errors = golden["label_tp_errors"][label]
        for name, key in (("minADE", "min_ade_err"), ("minFDE", "min_fde_err"), ("MR", "miss_rate_err")):
            assert golden_figures[f"{prefix}{name}/{label}"] == pytest.approx(errors[key], abs=ROUNDING)
        if golden["eval_mode"] == "epa":
            accuracy = golden_figures[f"{grouping.prefix}EPA/{label}"]
            assert accuracy == pytest.approx(golden["EPA"][label], abs=1e-9), "counts alone"
        if run != 3:  # the reference's fourth run has lost three of its four distances
            precision = np.mean(list(golden["label_aps"][label].values()))
            assert golden_figures[f"{prefix}AP/{label}"] == pytest.approx(precision, abs=1e-9)
    if run != 3:
        mean = "mAP-motion" if golden["eval_mode"] == "motion_map" else "mAP"
        assert golden_figures[f"{prefix}{mean}"] == pytest.approx(golden["mean_ap"], abs=1e-9)


def drive() -> AnnotatedScene:
    """Twenty cars ahead, two metres a step; the vehicle stands."""

    def cars(step: int) -> list[Thing]:
        return [Thing(i, x=i - 20 + 2.0 * step, y=10.0 + i) for i in range(20)]

    return scene_with([frame_at(0.5 * step, cars(step), points=1) for step in range(14)])


def forecast(scene: AnnotatedScene, index: int, *, off: float = 0.0, label: str = "car") -> FrameResult:
    """Every car of the scene, at constant speed, as it moves, but `off` to the right at every step."""
    frame = scene.frames[index]
    assert frame.objects is not None
    steps = np.arange(1, 13)[:, None] * [0.0, 2.0]
    boxes = [
        TrackedBox(
            track_id=i, label=label, score=0.9 - 0.01 * i, center=tuple(center), size=(2.0, 4.0, 2.0),
            heading=np.pi / 2, velocity=(0.0, 4.0),
            motion=MotionModes(np.array([center[:2] + steps + [off, 0.0]] * 6, np.float32), SHARES, 0.5),
        )
        for i, center in enumerate(frame.objects.center)
    ]  # fmt: skip
    return result_of(frame.token, boxes=tuple(boxes), ego_motion=EGO)


def test_the_truth_is_perfect() -> None:
    """But the last frame's cars have no future, and so cannot be found where an end is asked for: 13 of 14 are."""
    scene = drive()
    results = [forecast(scene, index) for index in range(len(scene.frames))]
    figures = figures_of(judge(METRIC, truth_of(scene), results)[0])
    assert [figures[f"{name}/car"] for name in ("minADE", "minFDE", "MR")] == pytest.approx([0, 0, 0], abs=1e-6)
    assert figures["AP/car"] == pytest.approx(1)
    assert figures["EPA/car"] == pytest.approx(13 / 14, abs=1e-6)
    assert figures["ten-classes/minADE/car"] == pytest.approx(0, abs=1e-6)
    assert np.isnan(figures["minADE/pedestrian"])


def test_paths_one_metre_off() -> None:
    """In each frame but the last, whose cars have no future, and would count as 0 if they were found."""
    scene = drive()
    *moving, last = (forecast(scene, index, off=1.0) for index in range(len(scene.frames)))
    figures = figures_of(judge(METRIC, truth_of(scene), [*moving, replace(last, boxes=())])[0])
    assert figures["minADE/car"] == pytest.approx(1, abs=1e-6)
    assert figures["motion-map/minADE/car"] == pytest.approx(1, abs=1e-6)
    assert figures["epa/MR/car"] == 0


def test_the_worst_frames_are_those_whose_forecasts_end_farthest_off() -> None:
    scene = drive()
    results = [forecast(scene, index, off=float(index == 3)) for index in range(len(scene.frames))]
    badness = judge(METRIC, truth_of(scene), results)[0].rankings[0].badness
    assert max(badness, key=badness.__getitem__) == scene.frames[3].token
    assert badness[scene.frames[3].token] == pytest.approx(1, abs=1e-5)


def test_classes_that_are_not_tracked_are_not_judged() -> None:
    """No submission holds their forecasts: the barriers are missed."""
    scene = drive()
    frame = scene.frames[0]
    barriers = judged_forecasts(forecast(scene, 0, label="barrier").boxes, frame, MOTION_CATEGORIES)
    cars = judged_forecasts(forecast(scene, 0).boxes, frame, MOTION_CATEGORIES)
    assert isinstance(barriers, Forecasts)
    assert isinstance(cars, Forecasts)
    assert (len(barriers.score), len(cars.score)) == (0, 20)


def test_boxes_without_a_forecast_are_left_out_and_counted() -> None:
    scene = drive()
    results = [forecast(scene, index) for index in range(len(scene.frames))]
    bare = tuple(replace(box, motion=None) for box in results[0].boxes)
    verdict, _ = judge(METRIC, truth_of(scene), [replace(results[0], boxes=bare), *results[1:]])
    assert verdict.notes == (
        "20 boxes in 1 frame have no forecast, being more than the model's capacity of agents; they are left out",
    )
    assert figures_of(verdict)["EPA/car"] == pytest.approx(12 / 14, abs=1e-6)


def test_what_cannot_be_judged() -> None:
    """A test set, and forecasts of another kind."""
    scene = scene_with([frame_at(0, None), frame_at(1, [Thing(0, 5, 5)])])
    bare, other = result_of("frame0", ego_motion=EGO), forecast(scene, 1)
    short = replace(other.boxes[0], motion=MotionModes(np.zeros((6, 6, 2), np.float32), SHARES, 0.5))
    _, gaps = judge(METRIC, truth_of(scene), [bare, replace(other, boxes=(short,))])
    assert gaps == [Gap("frame0", "annotations"), Gap("frame1", "forecasts of 12 steps of 0.5 s")]
