"""Scenes made by hand: a vehicle that stands or drives on flat ground, and boxes around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.data.frames import Pose
from toolkit.data.ground_truth import AnnotatedFrame, AnnotatedScene, objects_at

LEVEL = np.array([1.0, 0.0, 0.0, 0.0])
MOUNT = Pose(np.array([np.sqrt(0.5), 0.0, 0.0, -np.sqrt(0.5)]), np.array([1.0, 0.0, 2.0]))
"""A LiDAR one metre ahead of the ego's origin, x to the right, y ahead."""


@dataclass(frozen=True)
class Thing:
    """A box 2 m wide, 4 m long and 2 m high on the ground of the world, at x, y (m), heading by an angle (radians)."""

    number: int
    x: float
    y: float
    heading: float = 0.0
    label: str = "car"


def turn(angle: float) -> np.ndarray:
    """A quaternion about z."""
    return np.array([np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)])


def frame_at(
    seconds: float,
    things: Sequence[Thing] | None,
    *,
    x: float = 0.0,
    y: float = 0.0,
    yaw: float = 0.0,
    points: int = 0,
) -> AnnotatedFrame:
    """The ego at x, y of the world; it heads by `yaw`. The LiDAR has hit each thing with so many points."""
    ego = Pose(turn(yaw), np.array([x, y, 0.0]))
    count = len(things or ())
    objects = None if things is None else objects_at(
        MOUNT,
        ego,
        instance=[f"thing {thing.number}" for thing in things],
        number=np.array([thing.number for thing in things], np.int64),
        label=[thing.label for thing in things],
        size=np.tile([2.0, 4.0, 2.0], (count, 1)),
        position=np.array([(thing.x, thing.y, 1.0) for thing in things]).reshape(-1, 3),
        quaternion=np.array([turn(thing.heading) for thing in things]).reshape(-1, 4),
        velocity=np.zeros((count, 2)),
        lidar_points=np.full(count, points),
        radar_points=np.zeros(count),
        visibility=np.full(count, 4),
    )  # fmt: skip
    return AnnotatedFrame(f"frame{seconds:g}", round(seconds * 1e6), MOUNT, ego, objects)


def scene_with(frames: Sequence[AnnotatedFrame], location: str | None = None) -> AnnotatedScene:
    """A scene of these frames."""
    return AnnotatedScene("scene", location, tuple(frames))
