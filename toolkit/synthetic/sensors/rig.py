"""The sensors of a nuScenes-like car: six cameras and a LiDAR on the roof."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from toolkit.data.frames import Pose
from toolkit.synthetic.world.geometry import Array


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera: intrinsics [3, 3] in pixels, pose in the ego frame, exposure in µs relative to the LiDAR's."""

    channel: str
    intrinsics: Array
    pose: Pose
    delay: int
    size: tuple[int, int] = (1600, 900)
    """Width and height of the picture in pixels."""


LIDAR = Pose.from_matrix(np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]), np.array([0.94, 0.0, 1.84]))
"""The LiDAR in the ego frame: its x points to the right, its y forward."""


def _camera(
    channel: str, degrees: float, focal: float, principal: tuple[float, float], place: tuple[float, ...], delay: int
) -> Camera:
    """A level camera that looks `degrees` to the left of forward."""
    angle = math.radians(degrees)
    forward = np.array([math.cos(angle), math.sin(angle), 0.0])
    down = np.array([0.0, 0.0, -1.0])
    axes = np.stack([np.cross(down, forward), down, forward], axis=1)
    intrinsics = np.array([[focal, 0.0, principal[0]], [0.0, focal, principal[1]], [0.0, 0.0, 1.0]])
    return Camera(channel, intrinsics, Pose.from_matrix(axes, np.array(place)), delay)


CAMERAS = (
    _camera("CAM_FRONT", 0.3, 1266.0, (816.0, 491.0), (1.70, 0.016, 1.51), -35_500),
    _camera("CAM_FRONT_RIGHT", -56.4, 1261.0, (808.0, 495.0), (1.55, -0.493, 1.50), -27_600),
    _camera("CAM_FRONT_LEFT", 55.2, 1273.0, (827.0, 480.0), (1.52, 0.495, 1.51), -43_100),
    _camera("CAM_BACK", 180.1, 809.0, (829.0, 482.0), (0.03, 0.003, 1.58), -10_400),
    _camera("CAM_BACK_LEFT", 108.6, 1257.0, (792.0, 493.0), (1.04, 0.485, 1.59), -500),
    _camera("CAM_BACK_RIGHT", -110.8, 1260.0, (807.0, 501.0), (1.01, -0.481, 1.56), -20_000),
)
"""The cameras fire one after the other while the LiDAR turns once, as on a nuScenes car."""


def scaled_cameras(scale: float) -> tuple[Camera, ...]:
    """The cameras with smaller pictures; pixel centres are at whole numbers."""
    scaled = []
    for camera in CAMERAS:
        width, height = (round(side * scale) for side in camera.size)
        intrinsics = camera.intrinsics * np.array([[scale], [scale], [1.0]])
        intrinsics[:2, 2] += (scale - 1) / 2
        scaled.append(replace(camera, intrinsics=intrinsics, size=(width, height)))
    return tuple(scaled)


def ego_pose(x: float, y: float, yaw: float) -> Pose:
    """The pose of the ego vehicle on flat ground."""
    return Pose(np.array([math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]), np.array([x, y, 0.0]))


def chain(outer: Pose, inner: Pose) -> Pose:
    """First `inner`, then `outer`."""
    return Pose.from_matrix(outer.rotation @ inner.rotation, outer.rotation @ inner.translation + outer.translation)
