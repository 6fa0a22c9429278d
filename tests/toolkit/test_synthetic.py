"""The synthetic drive: calibrated, deterministic, and readable as a frame folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from toolkit.config import CAMERAS, ImageConfig
from toolkit.data.frame_folder import read_frame_folder
from toolkit.data.frames import Frame
from toolkit.data.preprocess import frame_inputs, lidar_to_image
from toolkit.data.synthetic import synthetic_frames, write_synthetic_frames


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """The first frame of each scene."""
    return list(synthetic_frames(frames_per_scene=1))


def test_objects_appear_where_the_calibration_puts_them(frames: list[Frame]) -> None:
    """The rear of the red car, 14.7 m ahead of the start and in the ego's lane."""
    frame = frames[0]
    view = frame.cameras["CAM_FRONT"]
    assert isinstance(view.image, np.ndarray)
    rear = np.array([14.7, 0.1, 0.8]) - frame.lidar2ego.translation
    u, v, depth, _ = lidar_to_image(view, ImageConfig(scale=1.0)) @ [*(rear @ frame.lidar2ego.rotation), 1.0]
    red, green, blue = view.image[round(v / depth), round(u / depth)].astype(int)
    assert red > 2 * max(green, blue)
    above = view.image[round(v / depth) - 150, round(u / depth)].astype(int)
    assert above[2] > above[0]


def test_the_drive_is_deterministic(frames: list[Frame]) -> None:
    again = next(synthetic_frames(frames_per_scene=1))
    for name in CAMERAS:
        np.testing.assert_array_equal(again.cameras[name].image, frames[0].cameras[name].image)


def test_the_ego_moves_as_its_speed_says() -> None:
    first, second = list(synthetic_frames(frames_per_scene=2))[:2]
    moved = np.linalg.norm(second.ego2global.translation - first.ego2global.translation)
    assert moved == pytest.approx(first.can.velocity[0] * (second.timestamp - first.timestamp))


def test_the_written_drive_runs_through_preprocessing(tmp_path: Path) -> None:
    write_synthetic_frames(tmp_path, frames_per_scene=1)
    frames = read_frame_folder(tmp_path)
    assert [frame.scene for frame in frames] == ["street-1", "street-2"]
    inputs = frame_inputs(frames[1], frames[0], ImageConfig())
    assert inputs["image"].shape == (6, 3, 256, 416)
    assert inputs["use_previous"] == [0]
