"""A turning LiDAR with 32 beams among boxes on flat ground."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.synthetic.sensors.rig import LIDAR
from toolkit.synthetic.world.geometry import Array

LIDAR_CHANNEL = "LIDAR_TOP"
_BEAMS = 32
_ELEVATIONS = (-30.67, 10.67)
"""Lowest and highest beam, degrees."""
_COLUMNS = 720
_RANGE = 70.0
_SHRINK = 0.03
"""Bodies are this much smaller than their boxes on every side, metres, so that points lie inside of them."""
_GROUND_DEPTH = 0.01
"""The ground's points lie this far below the boxes, metres, so that none of them counts as an object's."""
_NOISE = 0.01


@dataclass(frozen=True, eq=False)
class Scan:
    """`points` [n, 5]: x, y, z (metres, LiDAR frame), intensity, ring; `owner` [n]: index of the box hit, or -1."""

    points: NDArray[np.float32]
    owner: NDArray[np.int64]


def scan(ego: Array, poses: Array, sizes: Array, rng: np.random.Generator) -> Scan:
    """One turn at the ego pose (x, y, yaw): boxes at `poses` [n, 3] of `sizes` [n, 3] (width, length, height)."""
    slope = np.tan(np.radians(np.linspace(*_ELEVATIONS, _BEAMS)))
    azimuth = (np.arange(_COLUMNS) + 0.5) * 2 * math.pi / _COLUMNS - math.pi
    height = float(LIDAR.translation[2])
    with np.errstate(divide="ignore"):
        ground = np.where(slope < 0, (height + _GROUND_DEPTH) / -slope, np.inf)
    distance = np.repeat(ground[:, None], _COLUMNS, axis=1)
    owner = np.full(distance.shape, -1)
    for i, (pose, size) in enumerate(zip(_seen_from(ego, poses), sizes, strict=True)):
        if math.hypot(pose[0], pose[1]) - math.hypot(size[0], size[1]) / 2 < _RANGE:
            columns = _columns(pose, size)
            hit = _box_distance(pose, size - 2 * _SHRINK, azimuth[columns], slope, height)
            nearer = hit < distance[:, columns]
            distance[:, columns] = np.where(nearer, hit, distance[:, columns])
            owner[:, columns] = np.where(nearer, i, owner[:, columns])
    kept = distance < _RANGE
    noise = rng.uniform(-_NOISE, _NOISE, distance.shape)
    flat = np.where(owner >= 0, distance + noise, distance)
    # In the LiDAR frame x points to the right and y forward, where the azimuth is 0.
    xyz = np.stack([-flat * np.sin(azimuth), flat * np.cos(azimuth), distance * slope[:, None]], axis=-1)
    intensity = np.where(owner >= 0, 20 + owner % 40, 8.0 + 10 * rng.uniform(size=distance.shape))
    ring = np.broadcast_to(np.arange(_BEAMS)[:, None], distance.shape)
    points = np.concatenate([xyz, intensity.round()[..., None], ring[..., None]], axis=-1)[kept]
    return Scan(points.round(4).astype(np.float32), owner[kept])


def _seen_from(ego: Array, poses: Array) -> Array:
    """[n, 3]: poses relative to the LiDAR's place, with the axes of the ego frame."""
    cos, sin = math.cos(ego[2]), math.sin(ego[2])
    forward = LIDAR.translation[0]
    dx, dy = poses[:, 0] - ego[0] - forward * cos, poses[:, 1] - ego[1] - forward * sin
    return np.stack([cos * dx + sin * dy, cos * dy - sin * dx, poses[:, 2] - ego[2]], axis=-1)


def _columns(pose: Array, size: Array) -> NDArray[np.int64]:
    """The columns in which a box may be seen."""
    away, radius = math.hypot(pose[0], pose[1]), math.hypot(size[0], size[1]) / 2
    half = math.pi if away <= radius else math.asin(radius / away)
    step = 2 * math.pi / _COLUMNS
    middle = math.atan2(pose[1], pose[0]) + math.pi
    first, last = math.floor((middle - half) / step) - 1, math.ceil((middle + half) / step) + 1
    columns: NDArray[np.int64] = np.unique(np.arange(first, last + 1) % _COLUMNS)
    return columns


def _box_distance(pose: Array, size: Array, azimuth: Array, slope: Array, height: float) -> Array:
    """[beams, columns]: horizontal distance to a box, infinite where it is missed."""
    width, length, tall = size
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    origin = -np.array([cos * pose[0] + sin * pose[1], cos * pose[1] - sin * pose[0]])
    direction = np.stack([np.cos(azimuth - pose[2]), np.sin(azimuth - pose[2])])
    direction = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
    half = np.array([length / 2, width / 2])
    sides = np.sort((np.array([-1, 1])[:, None, None] * half[:, None] - origin[:, None]) / direction, axis=0)
    enter, leave = sides[0].max(axis=0), sides[1].min(axis=0)
    crossed = (enter < leave) & (enter > 0)
    top = tall + _SHRINK - height
    at_wall = slope[:, None] * enter
    with np.errstate(divide="ignore"):
        to_top = np.where(slope < 0, top / np.where(slope < 0, slope, -1.0), np.inf)[:, None]
    over = (at_wall > top) & (to_top > enter) & (to_top < leave) & (top < 0)
    hit = np.where((at_wall <= top) & (at_wall > -height), enter, np.where(over, to_top, np.inf))
    return np.where(crossed, hit, np.inf)
