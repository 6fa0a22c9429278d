"""A made-up moment with all kinds of results, and a frame with six grey cameras around the vehicle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ModelConfig
from toolkit.data.frames import CameraView, Command, Frame, Pose
from toolkit.runtime.results import (
    Detections,
    FrameResult,
    MapResult,
    MotionModes,
    OccupancyResult,
    PlanResult,
    TrackedBox,
)

CONFIG = ModelConfig()
GREY = 90
_DIRECTIONS = {
    "CAM_FRONT": 90, "CAM_FRONT_RIGHT": 35, "CAM_FRONT_LEFT": 145,
    "CAM_BACK": -90, "CAM_BACK_LEFT": -160, "CAM_BACK_RIGHT": -20,
}  # fmt: skip
"""Where each looks, degrees from the x axis of the LiDAR frame."""


def result(frame: str = "0007", timestamp: float = 3.5, **parts: Any) -> FrameResult:
    """Nothing but what is given."""
    empty: dict[str, Any] = {"boxes": (), "ego_motion": None, "map": None, "occupancy": None, "plan": None}
    return FrameResult(
        frame=frame, scene="monday", timestamp=timestamp, command=Command.LEFT, dropped_tracks=0, dropped_agents=0,
        **(empty | parts),
    )  # fmt: skip


def full_result(frame: str = "0007", timestamp: float = 3.5) -> FrameResult:
    """A moving car ahead, a pedestrian behind, and everything else a model can say."""
    car = box((2, 15), velocity=(0, 5), motion=straight_on((2, 15)))
    pedestrian = box((-3, -12), label="pedestrian", size=(0.7, 0.7, 1.8))
    occupancy = occupancy_with(cells(40, 30))
    return result(
        frame,
        timestamp,
        boxes=(car, pedestrian),
        detections=detections(),
        ego_motion=straight_on((0, 0)),
        map=map_with(cells(25, 20)),
        occupancy=replace(occupancy, instances=occupancy.cells.astype(np.int32)),
        plan=plan_ahead(),
    )


def frame(name: str = "0007", timestamp: float = 3.5) -> Frame:
    """LiDAR 1.84 m above the ground; the ego drives along the global x axis at 5 m/s."""
    lidar2ego = Pose.from_matrix(np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]), np.array([0.94, 0.0, 1.84]))
    ego2global = Pose(np.array([1.0, 0, 0, 0]), np.array([5 * timestamp, 0, 0]))
    cameras = {camera: _camera(math.radians(_DIRECTIONS[camera])) for camera in CONFIG.image.cameras}
    return Frame(name, "monday", timestamp, cameras, lidar2ego, ego2global, Command.LEFT)


def box(
    place: Sequence[float],
    label: str = "car",
    size: tuple[float, float, float] = (2.0, 4.0, 1.5),
    velocity: tuple[float, float] = (0.0, 0.0),
    motion: MotionModes | None = None,
) -> TrackedBox:
    """At (x, y) on the ground, heading ahead."""
    return TrackedBox(7, label, 0.8, (place[0], place[1], size[2] / 2 - 1.84), size, math.pi / 2, velocity, motion)


def straight_on(place: Sequence[float]) -> MotionModes:
    """Six modes of 12 m ahead within 6 s, of falling probability."""
    steps = np.arange(1.0, 13.0, dtype=np.float32)
    ahead = np.stack([np.full(12, place[0], np.float32), np.float32(place[1]) + steps], axis=-1)
    return MotionModes(np.stack([ahead] * 6), np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.05], np.float32), 0.5)


def detections() -> Detections:
    """A car ahead, and another behind it of which the network is less sure."""
    boxes = [[2, 15, -1.1, 2, 4, 1.5, math.pi / 2, 0, 5], [2, 25, -1.1, 2, 4, 1.5, math.pi / 2, 0, 0]]
    labels, scores = np.array([1, 1], np.int32), np.array([0.8, 0.1], np.float32)
    return Detections(("pedestrian", "car"), labels, scores, np.array(boxes, np.float32))


def plan_ahead() -> PlanResult:
    """24 m in 3 s."""
    return PlanResult(np.stack([np.zeros(6), np.linspace(4, 24, 6)], axis=-1).astype(np.float32), 0.5)


def cells(row: int, column: int) -> NDArray[np.bool_]:
    """A grid with one cell that is true."""
    grid = np.zeros((50, 50), np.bool_)
    grid[row, column] = True
    return grid


def map_with(drivable: NDArray[np.bool_]) -> MapResult:
    """Without lanes."""
    lanes = np.zeros((3, 50, 50), np.bool_)
    bev = (-51.2, 51.2)
    return MapResult(("divider", "crossing", "boundary"), lanes, lanes.astype(np.float32), drivable, (), bev, bev)


def occupancy_with(grid: NDArray[np.bool_]) -> OccupancyResult:
    """The same now and four steps ahead."""
    steps = np.stack([grid] * 5)
    return OccupancyResult(steps, steps.astype(np.float32), 0.5, (-12.5, 12.5), (-12.5, 12.5))


def _camera(direction: float) -> CameraView:
    view = np.array([math.cos(direction), math.sin(direction), 0.0])
    right, down = np.array([view[1], -view[0], 0.0]), np.array([0.0, 0.0, -1.0])
    sensor2lidar = Pose.from_matrix(np.stack([right, down, view], axis=1), 0.5 * view + (0, 0, -0.3))
    intrinsics = np.array([[1266.0, 0, 800], [0, 1266, 450], [0, 0, 1]])
    return CameraView(np.full((900, 1600, 3), GREY, np.uint8), intrinsics, sensor2lidar)
