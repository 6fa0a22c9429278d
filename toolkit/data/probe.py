"""A short sequence of made-up but plausible frame tensors, for checking a conversion without any data."""

from __future__ import annotations

import math

import numpy as np

from toolkit.config.model import ImageConfig, ModelConfig
from toolkit.data.ego_motion import rotation_entries

FRAME_SECONDS = 0.5
SPEED = 6.0
YAW_RATE = 0.15
RADIUS = SPEED / YAW_RATE
LIDAR_HEIGHT = 1.8
"""The drive, in seconds, metres and radians."""
CONTRAST = 58.395
"""Standard deviation of the colours of usual pictures, of 255."""


def probe_frames(config: ModelConfig, length: int, scene_change: int) -> list[dict[str, np.ndarray]]:
    """`length` frames of tensors for every frame input; a new scene begins at frame `scene_change`.

    A ring of cameras looks outward from an ego that drives an arc; images are smooth noise that drifts, so that the
    backbone sees structure.
    """
    return [probe_frame(config, number, number not in (0, scene_change)) for number in range(length)]


def probe_frame(config: ModelConfig, number: int, continues: bool) -> dict[str, np.ndarray]:
    """Frame `number` of the drive that `probe_frames` describes; a new scene begins with it unless it `continues`."""
    yaw, step = YAW_RATE * FRAME_SECONDS * number, SPEED * FRAME_SECONDS * continues
    cos, sin = math.cos(yaw), math.sin(yaw)
    can_bus = np.zeros(18, np.float32)
    can_bus[:2] = step * cos, step * sin
    ego2global = np.array([math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)])
    can_bus[3:7] = rotation_entries(ego2global, config.can_bus_rotation)
    can_bus[9], can_bus[12], can_bus[13] = 9.81, YAW_RATE, SPEED
    can_bus[16], can_bus[17] = yaw, math.degrees(YAW_RATE * FRAME_SECONDS) * continues
    return {
        "image": _images(config, number),
        "lidar2img": _lidar2img(config),
        "can_bus": can_bus,
        "timestamp": np.array([FRAME_SECONDS * number], np.float32),
        "l2g_rotation": np.array([[sin, -cos, 0], [cos, sin, 0], [0, 0, 1]], np.float32),
        "l2g_translation": np.array([RADIUS * sin, RADIUS * (1 - cos), LIDAR_HEIGHT], np.float32),
        "command": np.array([number % config.planning.commands], np.int32),
        "use_previous": np.array([int(continues)], np.int32),
    }


def contrast(image: ImageConfig) -> float:
    """Standard deviation of usual pictures after this normalisation: 1 where they are divided by theirs."""
    return CONTRAST / image.std[0]


def _lidar2img(config: ModelConfig) -> np.ndarray:
    height, width = config.image.resized
    intrinsics = np.array(
        [[0.8 * width, 0, width / 2, 0], [0, 0.8 * width, height / 2, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]
    )
    cameras = len(config.image.cameras)
    matrices = []
    for camera in range(cameras):
        angle = 2 * math.pi * camera / cameras
        right = [math.cos(angle), math.sin(angle), 0]
        forward = [-math.sin(angle), math.cos(angle), 0]
        extrinsics = np.eye(4)
        extrinsics[:3, :3] = np.array([right, [0, 0, -1], forward])
        extrinsics[:3, 3] = 0, -0.3, -0.7
        matrices.append(intrinsics @ extrinsics)
    return np.stack(matrices).astype(np.float32)


def _images(config: ModelConfig, number: int) -> np.ndarray:
    """Sums of drifting waves of random direction and phase, one set a camera, zero in the padding.

    Their deviation is that of usual pictures after the config's normalisation.
    """
    amplitude = 0.3 * np.float32(contrast(config.image))
    (height, width), (padded_height, padded_width) = config.image.resized, config.image.padded
    y, x = np.mgrid[:height, :width].astype(np.float32)
    images = np.zeros((len(config.image.cameras), 3, padded_height, padded_width), np.float32)
    for camera, image in enumerate(images):
        waves = np.random.default_rng(camera).normal(size=(24, 7)).astype(np.float32)
        for wave in waves:
            fx, fy, phase, drift = wave[:4]
            values = np.sin(0.15 * (fx * x + fy * y) + 6 * phase + drift * number)
            image[:, :height, :width] += amplitude * wave[4:, None, None] * values
    return images
