"""From the LiDAR frame into camera pictures, by the very matrices that the network is given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ImageConfig
from toolkit.data.frames import Float64Array, Frame
from toolkit.data.preprocess import lidar_to_image

NEAR = 0.3
"""Nothing nearer to the camera (m) is drawn: the image of a point runs off as its depth goes to zero."""


def lidar_to_picture(frame: Frame, camera: str, config: ImageConfig, width: int) -> Float64Array:
    """[3, 4]: homogeneous LiDAR coordinates (m) to (u·depth, v·depth, depth) in a picture `width` pixels wide.

    The network's `lidar2img` with its first two rows scaled from its picture to this one.
    """
    recorded = frame.recorded.get("lidar2img")
    index = config.cameras.index(camera)
    matrix = lidar_to_image(frame.cameras[camera], config) if recorded is None else recorded[index]
    scale = width / (config.source_width * config.scale)
    return np.diag([scale, scale, 1.0]) @ matrix[:3].astype(np.float64)


def project(matrix: Float64Array, points: Float64Array) -> Float64Array:
    """Pixels (u, v) and depth (m) [n, 3] of `points` [n, 3]; the pixels mean something for positive depths alone."""
    image = points @ matrix[:, :3].T + matrix[:, 3]
    depth = np.where(np.abs(image[:, 2]) < 1e-9, 1e-9, image[:, 2])
    return np.column_stack([image[:, :2] / depth[:, None], image[:, 2]])


def project_segments(matrix: Float64Array, starts: Float64Array, ends: Float64Array) -> Float64Array:
    """Pixels [m, 2, 2] of the segments' parts in front of the camera: those of [n, 3] starts and ends, or fewer."""
    first, last = (points @ matrix[:, :3].T + matrix[:, 3] for points in (starts, ends))
    ahead = (first[:, 2] >= NEAR) | (last[:, 2] >= NEAR)
    first, last = first[ahead], last[ahead]
    first, last = _cut(first, last), _cut(last, first)
    return np.stack([points[:, :2] / points[:, 2:] for points in (first, last)], axis=1)


def _cut(points: Float64Array, others: Float64Array) -> Float64Array:
    """Move points before the near plane along their segments onto it."""
    behind = points[:, 2] < NEAR
    span = np.where(behind, others[:, 2] - points[:, 2], 1.0)
    share = np.where(behind, (NEAR - points[:, 2]) / span, 0.0)
    return points + share[:, None] * (others - points)


def box_corners(
    center: tuple[float, float, float], size: tuple[float, float, float], heading: float
) -> NDArray[np.float64]:
    """[8, 3]: front left, front right, rear right, rear left, at the bottom and then at the top.

    `center` is the gravity centre, `size` width, length and height in metres, `heading` in radians from the x axis.
    """
    width, length, height = size
    ahead = np.array([np.cos(heading), np.sin(heading), 0.0]) * length / 2
    left = np.array([-np.sin(heading), np.cos(heading), 0.0]) * width / 2
    up = np.array([0.0, 0.0, height / 2])
    around = np.stack([ahead + left, ahead - left, -ahead - left, -ahead + left])
    return np.asarray(center + np.concatenate([around - up, around + up]))


def ground_height(frame: Frame, points: Float64Array) -> Float64Array:
    """z (m) of the ground plane, that of the ego frame, at `points` [n, 2] of the LiDAR frame."""
    a, b, c = frame.lidar2ego.rotation[2]
    return np.asarray(-(points @ np.array([a, b]) + frame.lidar2ego.translation[2]) / c)
