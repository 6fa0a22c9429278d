"""What training is given of the reference's small data set, against what the reference makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")

from plugins.map_segmentation.ground_truth import map_truth
from plugins.motion.ground_truth import motion_truth
from plugins.occupancy.ground_truth import occupancy_truth
from plugins.planning.ground_truth import plan_truth
from plugins.tracking.ground_truth import track_truth
from tests.evaluation.conftest import Arrays, Located
from toolkit.config.model import BevConfig, ModelConfig, YawConvention
from toolkit.data.ground_truth import Gap, GroundTruth
from toolkit.training.objects import trained_objects

NOISE = 1e-5
"""Metres: boxes are FP32."""


def without_map(scenes: tuple[Located, ...]) -> GroundTruth:
    return GroundTruth(tuple(each.scene for each in scenes), lambda location, names: None)


def made(located: Located, config: ModelConfig) -> Arrays:
    found = track_truth(without_map((located,)), config)(located.scene, located.index, last=False)
    assert not isinstance(found, Gap)
    return found


def test_objects_and_ego_of_tracking(golden_frames: list[Located], golden_trajectories: Arrays) -> None:
    """Hit objects of the classes inside the BEV's range, with the bottom of their boxes and their short paths."""
    config = ModelConfig()
    seen = 0
    for located in golden_frames:
        golden = {
            name: golden_trajectories[f"{located.prefix}.{name}"]
            for name in ("gt_boxes", "gt_velocity", "gt_names", "gt_inds", "valid_flag", "past", "past_mask", "sdc_box")
        }
        center, size = golden["gt_boxes"][:, :3], golden["gt_boxes"][:, 3:6]
        kept = golden["valid_flag"] & np.isin(golden["gt_names"], config.class_names)
        kept &= (np.abs(center[:, :2]) < 51.2).all(1)
        bottom = center - np.array([0, 0, 0.5]) * size[:, 2:]
        expected = np.concatenate((bottom, golden["gt_boxes"][:, 3:], np.nan_to_num(golden["gt_velocity"])), 1)[kept]
        arrays = made(located, config)
        boxes = arrays["gt_bboxes_3d"]
        turned = (boxes[:, 6] - expected[:, 6] + np.pi) % (2 * np.pi) - np.pi
        np.testing.assert_allclose(turned, 0, atol=NOISE)
        columns = [0, 1, 2, 3, 4, 5, 7, 8]
        np.testing.assert_allclose(boxes[:, columns], expected[:, columns], rtol=0, atol=NOISE)
        assert arrays["gt_inds"].tolist() == (golden["gt_inds"][kept] + 1).tolist()
        assert [config.class_names[label] for label in arrays["gt_labels_3d"]] == golden["gt_names"][kept].tolist()
        np.testing.assert_allclose(arrays["gt_past_traj_mask"], golden["past_mask"][kept])
        np.testing.assert_allclose(arrays["gt_sdc_bbox"], golden["sdc_box"], rtol=0, atol=NOISE)
        seen += len(boxes)
    assert seen > 50


def test_the_other_convention_of_yaw(golden_frames: list[Located]) -> None:
    """Its boxes carry the heading itself; the ego heads along y."""
    one, other = (
        made(golden_frames[0], replace(ModelConfig(), yaw_convention=convention)) for convention in YawConvention
    )
    np.testing.assert_allclose(other["gt_bboxes_3d"][:, 6], -one["gt_bboxes_3d"][:, 6] - np.pi / 2, atol=NOISE)
    assert other["gt_sdc_bbox"][0, 6] == pytest.approx(np.pi / 2)


def test_a_smaller_range_keeps_fewer(golden_frames: list[Located]) -> None:
    objects = golden_frames[0].frame.objects
    assert objects is not None
    near = replace(ModelConfig(), bev=BevConfig(x_range=(-10, 10), y_range=(-10, 10)))
    rows = trained_objects(objects, near)
    assert set(rows) < set(trained_objects(objects, ModelConfig()))
    assert (np.abs(objects.center[rows, :2]) < 10).all()


def test_a_frame_without_annotations(golden_frames: list[Located]) -> None:
    located = golden_frames[0]
    scene = replace(located.scene, frames=tuple(replace(frame, objects=None) for frame in located.scene.frames))
    found = track_truth(without_map((located,)), ModelConfig())(scene, located.index, last=False)
    assert isinstance(found, Gap)
    assert found.what == "annotations"


def test_plan_and_boxes_around_it(golden_frames: list[Located], golden_trajectories: Arrays) -> None:
    """The driven path with its yaw, and the boxes of now, whatever the convention of the network's own."""
    for located in golden_frames:
        planned = golden_trajectories[f"{located.prefix}.sdc_planning"]
        for convention in YawConvention:
            config = replace(ModelConfig(), yaw_convention=convention)
            arrays = plan_truth(without_map((located,)), config)(located.scene, located.index, last=True)
            assert not isinstance(arrays, Gap)
            np.testing.assert_allclose(arrays["sdc_planning"][0], planned, rtol=0, atol=1e-3)
            boxes = arrays["gt_future_boxes.0"]
            clockwise = golden_trajectories[f"{located.prefix}.gt_boxes"][:, 6]
            named = np.isin(golden_trajectories[f"{located.prefix}.gt_names"], config.class_names)
            turned = (boxes[:, 6] - clockwise[named] + np.pi) % (2 * np.pi) - np.pi
            np.testing.assert_allclose(turned, 0, atol=NOISE)
            ended = [step for step in range(7) if located.index + step >= len(located.scene.frames)]
            assert all(arrays[f"gt_future_boxes.{step}"].shape == (0, 9) for step in ended)


def test_only_the_present_is_planned(golden_frames: list[Located]) -> None:
    located = golden_frames[0]
    assert plan_truth(without_map((located,)), ModelConfig())(located.scene, located.index, last=False) == {}


def test_futures_of_the_trained_objects(golden_frames: list[Located], golden_trajectories: Arrays) -> None:
    """In the rows of tracking's objects, absolute; the ego's in its own frame."""
    config = ModelConfig()
    for located in golden_frames:
        arrays = motion_truth(without_map((located,)), config)(located.scene, located.index, last=True)
        objects = located.frame.objects
        assert not isinstance(arrays, Gap)
        assert objects is not None
        rows = trained_objects(objects, config)
        for name, golden in (("gt_fut_traj", "fut"), ("gt_fut_traj_mask", "fut_mask")):
            expected = golden_trajectories[f"{located.prefix}.{golden}"][rows]
            np.testing.assert_allclose(arrays[name], expected, rtol=0, atol=1e-3)
        for name, golden in (("gt_sdc_fut_traj", "sdc_fut"), ("gt_sdc_fut_traj_mask", "sdc_fut_mask")):
            np.testing.assert_allclose(
                arrays[name], golden_trajectories[f"{located.prefix}.{golden}"], rtol=0, atol=1e-3
            )


def test_cells_carry_the_ids_of_tracking(golden_frames: list[Located]) -> None:
    """An occupied cell names an object by the id that tracking is trained on."""
    config = ModelConfig()
    seen = 0
    for located in golden_frames:
        truth = without_map((located,))
        cells = occupancy_truth(truth, config)(located.scene, located.index, last=True)
        assert not isinstance(cells, Gap)
        assert cells["gt_instance"].shape == cells["gt_segmentation"].shape == (1, 7, 50, 50)
        assert cells["gt_occ_img_is_valid"].shape == (1, 9)
        objects = located.frame.objects
        assert objects is not None
        present = set(np.unique(cells["gt_instance"][0, 0]).tolist()) - {0}
        assert present <= set((objects.number + 1).tolist())
        seen += len(present)
    assert seen


def test_a_scene_without_a_map(golden_frames: list[Located]) -> None:
    located = golden_frames[0]
    truth = map_truth(without_map((located,)), ModelConfig())
    assert truth(located.scene, located.index, last=False) == {}
    assert isinstance(truth(located.scene, located.index, last=True), Gap)
