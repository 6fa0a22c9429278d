"""From result tensors to boxes, map, motion, occupancy and plan, and to files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.config.model import ModelConfig, YawConvention
from toolkit.data.frames import Command, Frame, Pose
from toolkit.errors import CheckFailed
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.result_reader import read_result
from toolkit.runtime.result_writer import write_result
from toolkit.runtime.results import FrameResult, frame_result, unknown_result

CONFIG = ModelConfig()
ORIGIN = Pose(np.array([1.0, 0, 0, 0]), np.zeros(3))
FRAME = Frame("0007", "monday", 3.5, {}, ORIGIN, ORIGIN, Command.RIGHT)
AGENTS = 2


INTERPRETATIONS = [s.interpretation for s in PluginManager.load().submodules() if s.interpretation is not None]


def interpreted(tensors: dict[str, np.ndarray], config: ModelConfig = CONFIG) -> FrameResult:
    """The frame's result, as the toolkit's submodules say."""
    return frame_result(tensors, unknown_result(FRAME), config, INTERPRETATIONS)


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    """Results with three boxes, of which the first two are agents of a network with that capacity."""
    boxes = np.zeros((300, 9), np.float32)
    boxes[0] = (10, 20, -1.5, 1.9, 4.6, 1.6, 0.0, 3, -4)
    boxes[1] = (-5, 8, -1, 0.7, 0.8, 1.8, 1.5 * math.pi, 0, 0)
    boxes[2] = (0, -30, -1, 2.5, 8, 3, -0.5 * math.pi, 0, 0)
    motion = np.zeros((AGENTS + 1, 6, 12, 5), np.float32)
    motion[0, :, :, 0] = np.arange(1, 13)
    motion[-1, :, :, 1] = np.arange(1, 13)
    centers = np.zeros((AGENTS + 1, 3), np.float32)
    centers[:2, :2], centers[-1] = boxes[:2, :2], (0.5, -1, 0)
    masks = np.zeros((100, 50, 50), np.bool_)
    masks[0, 10:20, 5] = True
    detections = boxes.copy()
    detections[3] = (7, 7, -2, 1, 2, 4, 0.25 * math.pi, 1, 2)
    occupancy = np.zeros((5, 50, 50), np.int32)
    occupancy[0, 40, 3] = 1
    merge_scores = np.zeros(100, np.float32)
    merge_scores[:2] = 0.6, 0.09
    return {
        "boxes": boxes,
        "box_scores": np.linspace(0.9, 0.1, 300, dtype=np.float32),
        "box_labels": np.array([0, 8, 1] + [0] * 297, np.int32),
        "box_ids": np.arange(40, 340, dtype=np.int32),
        "box_count": np.array([3], np.int32),
        "detection_boxes": detections,
        "detection_scores": np.linspace(0.9, 0.1, 300, dtype=np.float32),
        "detection_labels": np.array([0, 8, 1, 9] + [0] * 296, np.int32),
        "detection_count": np.array([4], np.int32),
        "dropped_tracks": np.array([0], np.int32),
        "dropped_agents": np.array([1], np.int32),
        "agent_center": centers,
        "motion_trajectories": motion,
        "motion_log_probs": np.log(np.tile([0.5, 0.2, 0.1, 0.1, 0.05, 0.05], (AGENTS + 1, 1))).astype(np.float32),
        "map_lanes": np.stack([masks[0], masks[1], masks[1]]),
        "map_lane_scores": np.zeros((3, 50, 50), np.float32),
        "map_drivable": masks[0],
        "map_merge_scores": merge_scores,
        "map_instance_boxes": np.tile(np.array([5, 10, 6, 20], np.float32), (100, 1)),
        "map_instance_labels": np.full(100, 2, np.int32),
        "map_instance_masks": masks,
        "occupancy": occupancy,
        "occupancy_scores": np.where(occupancy, 0.8, -0.9).astype(np.float32),
        "occupancy_instances": 3 * occupancy,
        "plan": np.arange(12, dtype=np.float32).reshape(6, 2),
    }


def test_boxes_have_names_gravity_centres_and_headings(tensors: dict[str, np.ndarray]) -> None:
    car, pedestrian, truck = interpreted(tensors).boxes
    assert (car.track_id, car.label, pedestrian.label, truck.label) == (40, "car", "pedestrian", "truck")
    assert car.score == pytest.approx(0.9)
    assert car.center == pytest.approx((10, 20, -0.7))
    assert car.size == pytest.approx((1.9, 4.6, 1.6))
    assert car.velocity == (3, -4)
    assert [box.heading for box in (car, pedestrian, truck)] == pytest.approx([-math.pi / 2, 0, 0], abs=1e-6)


def test_a_heading_follows_the_yaw_convention(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Yaws of 0, 3π/2 and -π/2 as heading = -yaw - π/2, or as the heading itself; also in the file."""
    for convention, headings in (
        (YawConvention.CLOCKWISE, [-math.pi / 2, 0, 0]),
        (YawConvention.HEADING, [0, -math.pi / 2, -math.pi / 2]),
    ):
        result = interpreted(tensors, replace(CONFIG, yaw_convention=convention))
        assert [box.heading for box in result.boxes] == pytest.approx(headings, abs=1e-6)
        written = read(write_result(result, tmp_path / convention))
        assert [box["heading"] for box in written["boxes"]] == pytest.approx(headings, abs=1e-6)


def test_detections_are_another_list_than_boxes(tensors: dict[str, np.ndarray]) -> None:
    """With gravity centres and headings like those; what follows the valid rows is left out."""
    result = interpreted(tensors)
    detections = result.detections
    assert detections is not None
    assert detections.classes == CONFIG.class_names
    assert detections.labels.tolist() == [0, 8, 1, 9]
    assert detections.scores.tolist() == pytest.approx([0.9, 0.9 - 0.8 / 299, 0.9 - 1.6 / 299, 0.9 - 2.4 / 299])
    assert detections.boxes[3].tolist() == pytest.approx([7, 7, 0, 1, 2, 4, -0.75 * math.pi, 1, 2])
    for box, detected in zip(result.boxes, detections.boxes.tolist(), strict=False):
        assert detected == pytest.approx([*box.center, *box.size, box.heading, *box.velocity])
    assert {array.dtype.name for array in (detections.boxes, detections.scores)} == {"float32"}
    assert tensors["detection_boxes"][3, 2] == -2


def test_networks_of_earlier_versions_have_neither_detections_nor_instances(tensors: dict[str, np.ndarray]) -> None:
    earlier = {k: v for k, v in tensors.items() if not k.startswith("detection") and k != "occupancy_instances"}
    result = interpreted(earlier)
    assert len(result.boxes) == 3
    assert result.detections is None
    assert result.occupancy is not None
    assert result.occupancy.instances is None


def test_instances_are_told_where_the_boxes_are(tensors: dict[str, np.ndarray]) -> None:
    told = interpreted(tensors).occupancy
    assert told is not None
    assert told.instances is not None
    np.testing.assert_array_equal(told.instances, tensors["occupancy_instances"])
    untold = interpreted({k: v for k, v in tensors.items() if not k.startswith("box")}).occupancy
    assert untold is not None
    assert untold.instances is None


def test_motion_is_absolute_and_belongs_to_the_first_boxes(tensors: dict[str, np.ndarray]) -> None:
    result = interpreted(tensors)
    motion = result.boxes[0].motion
    assert motion is not None
    np.testing.assert_array_equal(motion.trajectories[3, 0], (11, 20))
    np.testing.assert_allclose(motion.probabilities, [0.5, 0.2, 0.1, 0.1, 0.05, 0.05], rtol=1e-6)
    assert result.boxes[1].motion is not None
    assert result.boxes[2].motion is None
    assert result.dropped_agents == 1
    assert result.ego_motion is not None
    np.testing.assert_array_equal(result.ego_motion.trajectories[0, -1], (0.5, 11))


def test_grids_know_their_extent(tensors: dict[str, np.ndarray]) -> None:
    result = interpreted(tensors)
    assert result.map is not None
    assert result.map.x_range == (-51.2, 51.2)
    assert result.occupancy is not None
    assert result.occupancy.y_range == (-12.5, 12.5)
    assert result.occupancy.cells.sum() == 1


def test_map_instances_below_the_threshold_are_left_out(tensors: dict[str, np.ndarray]) -> None:
    result = interpreted(tensors)
    assert result.map is not None
    (instance,) = result.map.instances
    assert instance.label == "boundary"
    assert instance.box == pytest.approx((-40.96, -30.72, -38.912, -10.24))
    assert instance.mask.sum() == 10


def test_a_model_may_lack_submodules(tensors: dict[str, np.ndarray]) -> None:
    boxes_only = {k: v for k, v in tensors.items() if not k.startswith(("motion", "map", "occupancy", "plan"))}
    result = interpreted(boxes_only)
    assert (result.ego_motion, result.map, result.occupancy, result.plan) == (None, None, None, None)
    assert [box.motion for box in result.boxes] == [None] * 3


def read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def test_results_are_written_as_json_and_npz(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = write_result(interpreted(tensors), tmp_path / "results")
    values = read(path)
    assert path.name == "0007.json"
    assert (values["scene"], values["timestamp"], values["command"]) == ("monday", 3.5, "right")
    assert values["boxes"][0]["center"] == pytest.approx([10, 20, -0.7])
    assert values["boxes"][0]["motion"]["probabilities"][0] == 0.5
    assert values["boxes"][2]["motion"] is None
    assert values["detections"] == {"classes": list(CONFIG.class_names)}
    assert values["plan"] == {"step_seconds": 0.5, "points": tensors["plan"].tolist()}
    assert values["map"]["instances"][0]["label"] == "boundary"
    with np.load(path.parent / values["grids"]) as grids:
        assert sorted(grids) == ["detection_boxes", "detection_labels", "detection_scores", "map_drivable",
                                 "map_instance_masks", "map_lane_scores", "map_lanes",
                                 "occupancy", "occupancy_instances", "occupancy_scores"]  # fmt: skip
        np.testing.assert_array_equal(grids["map_instance_masks"], tensors["map_instance_masks"][:1])
        np.testing.assert_array_equal(grids["occupancy"], tensors["occupancy"] == 1)
    assert sorted(file.name for file in path.parent.iterdir()) == ["0007.json", "0007.npz"]


@pytest.mark.parametrize("scene", ['m\u00f6nday \x7f \U0001f600 "\\"', "\ud83d"], ids=["letters", "half a pair"])
def test_the_json_is_that_of_pythons_encoder(scene: str, tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    """To the byte, whatever its numbers and names: files of earlier versions stay comparable."""
    tensors["plan"][:] = [(1e-5, -1.5e-5), (1e-6, -0.0), (9.9e-5, 1e-4), (1e16, -1e20), (123456.789, 0.1), (1e15, 0)]
    tensors["motion_log_probs"][:, 1] = np.log(2e-5)
    result = replace(interpreted(tensors), scene=scene, timestamp=2e-5)
    text = write_result(result, tmp_path).read_text("ascii")
    assert text == json.dumps(json.loads(text))
    values = json.loads(text)
    assert (values["scene"], values["timestamp"]) == (result.scene, 2e-5)
    assert values["boxes"][0]["motion"]["probabilities"][1] == 2e-5
    assert values["plan"]["points"][:2] == [[1e-5, -1.5e-5], [1e-6, 0]]


def test_forecasts_may_differ_in_shape(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    first, second, third = interpreted(tensors).boxes
    assert first.motion is not None
    assert second.motion is not None
    shorter = replace(second, motion=replace(second.motion, trajectories=second.motion.trajectories[:, :3]))
    boxes = read(write_result(replace(interpreted(tensors), boxes=(third, shorter, first)), tmp_path))["boxes"]
    assert boxes[0]["motion"] is None
    assert np.shape(boxes[1]["motion"]["trajectories"]) == (6, 3, 2)
    np.testing.assert_array_equal(boxes[2]["motion"]["trajectories"], first.motion.trajectories)


def test_without_grids_there_is_no_npz(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    boxes_only = {k: v for k, v in tensors.items() if k.startswith(("box", "dropped"))}
    path = write_result(interpreted(boxes_only), tmp_path)
    assert "grids" not in read(path)
    assert list(tmp_path.iterdir()) == [path]


def test_values_that_are_not_finite_are_no_result(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    tensors["plan"][2, 0] = np.nan
    with pytest.raises(CheckFailed, match="frame 0007: the network's results hold values that are not finite"):
        write_result(interpreted(tensors), tmp_path)
    assert not (tmp_path / "0007.json").exists()


def test_without_tracking_there_are_no_boxes(tensors: dict[str, np.ndarray]) -> None:
    """As of a checkpoint without entries for it."""
    result = interpreted({"plan": tensors["plan"]})
    assert (result.boxes, result.dropped_tracks, result.dropped_agents) == ((), 0, 0)
    assert result.plan is not None


def test_results_that_nobody_interprets_are_kept(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    """In the npz under their names, which the JSON lists; and they can be read back."""
    heat = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = write_result(interpreted({"plan": tensors["plan"], "heat": heat}), tmp_path)
    assert read(path)["further"] == ["heat"]
    with np.load(path.with_suffix(".npz")) as grids:
        np.testing.assert_array_equal(grids["heat"], heat)
    np.testing.assert_array_equal(read_result(path).further["heat"], heat)


def test_none_of_the_toolkits_own_results_is_unknown(tensors: dict[str, np.ndarray]) -> None:
    assert not interpreted(tensors).further
