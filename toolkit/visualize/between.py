"""Moments between two key frames: the vehicle moves as its poses say, and objects go on at their velocity."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from toolkit.data.frames import Float64Array, Frame
from toolkit.runtime.results import FrameResult


@dataclass(frozen=True, eq=False)
class PlanarMotion:
    """From one LiDAR frame of the vehicle to a later one, over the ground: `rotation` [2, 2], `translation` [2] (m)."""

    rotation: Float64Array
    translation: Float64Array

    def apply(self, points: NDArray[np.floating]) -> Float64Array:
        """`points` [n, 2] of the earlier frame in the later one."""
        return np.asarray(points, np.float64) @ self.rotation.T + self.translation


STILL = PlanarMotion(np.eye(2), np.zeros(2))
"""Of a vehicle that stays where it is."""


def motion_between(before: Frame, after: Frame, share: float) -> PlanarMotion:
    """What the vehicle has done when this `share` of the time between two frames has passed, at an even pace."""
    (angle, place), (last_angle, last_place) = (_planar_pose(frame) for frame in (before, after))
    turned = share * math.remainder(last_angle - angle, math.tau)
    passed = share * (last_place - place)
    back = _rotation(-angle - turned)
    return PlanarMotion(_rotation(-turned), -back @ passed)


def gone_on(result: FrameResult, seconds: float) -> FrameResult:
    """The result with its time and its objects moved on; all else stays where it was in the world."""
    boxes = tuple(
        replace(box, center=(x + seconds * box.velocity[0], y + seconds * box.velocity[1], z))
        for box in result.boxes
        for x, y, z in [box.center]
    )
    return replace(result, timestamp=result.timestamp + seconds, boxes=boxes)


def _planar_pose(frame: Frame) -> tuple[float, Float64Array]:
    """Heading (rad) of the LiDAR's x axis and its place [2] (m) in the world."""
    rotation = frame.ego2global.rotation @ frame.lidar2ego.rotation
    place = frame.ego2global.rotation @ frame.lidar2ego.translation + frame.ego2global.translation
    return math.atan2(rotation[1, 0], rotation[0, 0]), place[:2]


def _rotation(angle: float) -> Float64Array:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
