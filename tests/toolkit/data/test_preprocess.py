"""Frames to tensors: equal to the reference's preprocessing of a real frame, and its rules for ego motion."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.config.model import CAMERAS, CanBusRotation, ChannelOrder, ImageConfig, ModelConfig
from toolkit.data.ego_motion import ego_motion, recorded_pose, recorded_rotation
from toolkit.data.frames import CameraView, CanReading, Command, Frame, Pose
from toolkit.data.preprocess import camera_image, frame_inputs, lidar_to_image
from toolkit.data.sequence import sequence_inputs
from toolkit.errors import InputError
from toolkit.specs import FRAME_INPUTS

SCALAR, QUATERNION = CanBusRotation
BASE = ImageConfig(scale=1.0, channel_order=ChannelOrder.BGR, mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0))
"""Pictures as UniAD-base takes them."""


def street_frame(scene: str, x: float, degrees: float, timestamp: float = 0.0) -> Frame:
    """A frame without pictures at global position (x, 2, 0), heading `degrees` counter-clockwise from global x."""
    half = math.radians(degrees) / 2
    return Frame(
        name="frame",
        scene=scene,
        timestamp=timestamp,
        cameras={},
        lidar2ego=Pose(np.array([1.0, 0, 0, 0]), np.zeros(3)),
        ego2global=Pose(np.array([math.cos(half), 0, 0, math.sin(half)]), np.array([x, 2.0, 0.0])),
        command=Command.STRAIGHT,
        can=CanReading(np.array([1.0, 2, 3]), np.array([4.0, 5, 6]), np.array([7.0, 8, 9])),
    )


def test_images_equal_the_reference(nuscenes_folder: Path, nuscenes_frame: Frame) -> None:
    with np.load(nuscenes_folder / "preprocessed.npz") as expected:
        assert tuple(expected["cameras"]) == CAMERAS
        images = frame_inputs(nuscenes_frame, None, ModelConfig())["image"]
        np.testing.assert_allclose(images, expected["img"][0], atol=2e-6, rtol=0)


def test_inputs_have_the_declared_shapes_and_types(nuscenes_frame: Frame) -> None:
    config = ModelConfig()
    inputs = frame_inputs(nuscenes_frame, None, config)
    assert list(inputs) == [spec.name for spec in FRAME_INPUTS]
    for spec in FRAME_INPUTS:
        assert inputs[spec.name].shape == spec.resolve(config.dimensions()), spec.name
        assert inputs[spec.name].dtype == spec.dtype, spec.name


def test_annotated_objects_project_to_their_annotated_pixels(
    nuscenes_frame: Frame, nuscenes_info: dict[str, Any]
) -> None:
    centers = np.array([[*box["bbox_3d"][:3], 1.0] for box in nuscenes_info["instances"]])
    for name, objects in nuscenes_info["cam_instances"].items():
        projected = centers @ lidar_to_image(nuscenes_frame.cameras[name], ImageConfig()).T
        pixels = projected[:, :2] / projected[:, 2:3]
        for entry in objects:
            candidates = np.abs(projected[:, 2] - entry["depth"]) < 1e-2
            distance = np.abs(pixels[candidates] - np.array(entry["center_2d"]) / 4).max(1).min()
            assert distance < 0.02, name


def test_projections_equal_the_annotated_ones(nuscenes_frame: Frame, nuscenes_info: dict[str, Any]) -> None:
    """The real frame's annotation has the camera matrix and the transform from LiDAR to camera."""
    scale = np.diag([0.25, 0.25, 1.0])
    for name, view in nuscenes_frame.cameras.items():
        annotated = nuscenes_info["images"][name]
        expected = scale @ np.array(annotated["cam2img"]) @ np.array(annotated["lidar2cam"])[:3]
        actual = lidar_to_image(view, ImageConfig())
        np.testing.assert_allclose(actual[:3], expected, rtol=1e-6, atol=2e-4)
        np.testing.assert_array_equal(actual[3], [0, 0, 0, 1])


def test_lidar_to_global_maps_row_vectors(nuscenes_frame: Frame, nuscenes_info: dict[str, Any]) -> None:
    inputs = frame_inputs(nuscenes_frame, None, ModelConfig())
    expected = (
        np.array(nuscenes_info["ego2global"])
        @ np.array(nuscenes_info["lidar_points"]["lidar2ego"])
        @ [10.0, 20.0, 1.0, 1.0]
    )
    actual = np.array([10.0, 20.0, 1.0]) @ inputs["l2g_rotation"] + inputs["l2g_translation"]
    np.testing.assert_allclose(actual, expected[:3], atol=1e-3)


def test_ego_motion_is_the_difference_to_the_previous_frame() -> None:
    motion = ego_motion(street_frame("a", 13.0, 350.0), street_frame("a", 10.0, 340.0), QUATERNION)
    half = math.radians(350) / 2
    np.testing.assert_allclose(motion[:3], [3, 0, 0])
    np.testing.assert_allclose(motion[3:7], [math.cos(half), 0, 0, math.sin(half)], atol=1e-7)
    np.testing.assert_array_equal(motion[7:16], np.arange(1, 10))
    np.testing.assert_allclose(motion[16:], [math.radians(350), 10.0], rtol=1e-6)


def test_the_rotation_has_the_form_of_the_training() -> None:
    """The published trainings kept the quaternion's scalar part alone, four times; nothing else differs."""
    here, before = street_frame("a", 13.0, 350.0), street_frame("a", 10.0, 340.0)
    scalar, quaternion = (ego_motion(here, before, rotation) for rotation in (SCALAR, QUATERNION))
    np.testing.assert_array_equal(scalar[3:7], np.full(4, math.cos(math.radians(350) / 2), np.float32))
    np.testing.assert_array_equal(np.delete(scalar, range(3, 7)), np.delete(quaternion, range(3, 7)))


@pytest.mark.parametrize("rotation", CanBusRotation)
@pytest.mark.parametrize("degrees", [0, 60, 90, 179, 180, 270, 359])
def test_the_form_of_a_recorded_rotation_is_seen(rotation: CanBusRotation, degrees: float) -> None:
    """The heading survives in both."""
    frame = street_frame("a", 0, degrees)
    vector = ego_motion(frame, None, rotation).astype(np.float64)
    assert recorded_rotation(vector) is rotation
    pose = recorded_pose(vector, np.zeros(3), "can_bus")
    np.testing.assert_allclose(pose.rotation, frame.ego2global.rotation, atol=1e-6)


def test_every_source_is_fed_in_the_form_of_the_configuration(nuscenes_frame: Frame) -> None:
    """What frames store are poses; the vector is made when they are run."""
    w, x, y, z = nuscenes_frame.ego2global.quaternion.astype(np.float32)
    usual = frame_inputs(nuscenes_frame, None, ModelConfig())["can_bus"]
    assert usual[3:7].tolist() == [w] * 4
    whole = frame_inputs(nuscenes_frame, None, ModelConfig(can_bus_rotation=QUATERNION))["can_bus"]
    assert whole[3:7].tolist() == [w, x, y, z]


def test_the_turn_is_not_wrapped() -> None:
    assert ego_motion(street_frame("a", 0, 1), street_frame("a", 0, 359), SCALAR)[17] == pytest.approx(-358)


def test_evaluation_never_resets_ego_motion() -> None:
    very_first = ego_motion(street_frame("a", 10.0, 30.0), None, SCALAR)
    np.testing.assert_allclose(very_first[[0, 1, 17]], [10.0, 2.0, 30.0], rtol=1e-6)
    scene_change = ego_motion(street_frame("b", 25.0, 90.0), street_frame("a", 10.0, 30.0), SCALAR)
    np.testing.assert_allclose(scene_change[[0, 1, 17]], [15.0, 0.0, 60.0], rtol=1e-6)


def test_training_resets_ego_motion_with_each_scene() -> None:
    for previous in (None, street_frame("a", 10.0, 30.0)):
        motion = ego_motion(street_frame("b", 25.0, 90.0), previous, SCALAR, "training")
        np.testing.assert_array_equal(motion[[0, 1, 2, 17]], 0)
        assert motion[16] == pytest.approx(math.pi / 2)


def test_ego_motion_of_golden_sequence_c(golden: Path) -> None:
    """Frames rebuilt from the absolute poses of the golden inputs give its differences, scene change included.

    They carry the quaternion.
    """
    with np.load(golden / "golden_seedC.npz") as sequence:
        expected = [sequence[f"f{t}.in.img_metas_can_bus"] for t in range(10)]
    positions = np.cumsum([motion[:3] for motion in expected], axis=0, dtype=np.float64)
    previous = None
    for t, (motion, position) in enumerate(zip(expected, positions, strict=True)):
        frame = Frame(
            name=str(t),
            scene="first" if t < 8 else "second",
            timestamp=0.5 * t,
            cameras={},
            lidar2ego=Pose.from_matrix(np.eye(3), np.zeros(3)),
            ego2global=Pose(motion[3:7].astype(np.float64), position),
            command=Command.STRAIGHT,
            can=CanReading(motion[7:10], motion[10:13], motion[13:16]),
        )
        np.testing.assert_allclose(ego_motion(frame, previous, QUATERNION), motion, rtol=1e-5, atol=2e-4)
        previous = frame


def test_state_continues_within_a_scene_only() -> None:
    pixels = np.zeros((900, 1600, 3), np.uint8)
    view = CameraView(pixels, np.eye(3), Pose(np.array([1.0, 0, 0, 0]), np.zeros(3)))
    config = ModelConfig(image=ImageConfig(cameras=("CAM_FRONT",)))
    frames = [
        Frame(**(vars(street_frame(scene, 0, 0, timestamp)) | {"cameras": {"CAM_FRONT": view}}))
        for scene, timestamp in (("a", 0.0), ("a", 0.5), ("b", 0.0), ("b", 0.5))
    ]
    inputs = [values for _, values in sequence_inputs(frames, config)]
    assert [int(values["use_previous"][0]) for values in inputs] == [0, 1, 0, 1]
    assert [float(values["timestamp"][0]) for values in inputs] == [0.0, 0.5, 0.0, 0.5]


def test_an_array_equals_its_picture_and_padding_is_zero() -> None:
    config = ImageConfig()
    image = camera_image(np.full((900, 1600, 3), (255, 0, 128), np.uint8), config)
    expected = (np.array([255, 0, 128]) - config.mean) / config.std
    np.testing.assert_allclose(image[:, 224, 399], expected, rtol=1e-6)
    np.testing.assert_array_equal(image[:, 225:], 0)
    np.testing.assert_array_equal(image[:, :, 400:], 0)


def test_base_takes_blue_first_and_whole_pictures() -> None:
    """No resize, its own mean, and zeros below: to the last bit what the subtraction gives in double precision."""
    pixels = np.random.default_rng(0).integers(0, 256, (900, 1600, 3)).astype(np.uint8)
    image = camera_image(pixels, BASE)
    assert image.shape == (3, 928, 1600)
    mean = np.array(BASE.mean, np.float32).astype(np.float64)
    expected = (pixels[..., ::-1].astype(np.float64) - mean).astype(np.float32).transpose(2, 0, 1)
    np.testing.assert_array_equal(image[:, :900], expected)
    np.testing.assert_array_equal(image[:, 900:], 0)


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match="found 800x450, 3 channels of uint8; the model takes 1600x900 RGB of uint8"):
        camera_image(np.zeros((450, 800, 3), np.uint8), BASE)


def test_a_missing_camera_is_an_input_error() -> None:
    with pytest.raises(InputError, match="frame frame: camera CAM_FRONT is missing; the model takes CAM_FRONT, CAM"):
        frame_inputs(street_frame("a", 0, 0), None, ModelConfig())
