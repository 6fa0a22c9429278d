"""Curves made of circular arcs, and rectangles on the ground."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_TURN_PROFILE = (0.2, 0.5, 0.8, 1.0, 1.0, 1.0, 0.8, 0.5, 0.2)
"""Curvature along a turn, relative to its tightest part: the steering wheel is turned gradually."""


@dataclass(frozen=True)
class Arc:
    """A piece of a curve: length in metres, curvature in 1/m, positive to the left, 0 for a straight piece."""

    length: float
    curvature: float = 0.0


@dataclass(frozen=True)
class Curve:
    """Arcs joined end to end without a kink; `start` is (x, y, yaw) in metres and radians."""

    start: tuple[float, float, float]
    arcs: tuple[Arc, ...]

    @cached_property
    def length(self) -> float:
        return sum(arc.length for arc in self.arcs)

    @cached_property
    def joints(self) -> list[tuple[float, float, float, float]]:
        """Distance from the start, x, y, yaw where the arcs begin, and of the end."""
        rows = [(0.0, *self.start)]
        for arc in self.arcs:
            distance, *pose = rows[-1]
            rows.append((distance + arc.length, *_advance((pose[0], pose[1], pose[2]), arc.curvature, arc.length)))
        return rows

    @property
    def end(self) -> tuple[float, float, float]:
        """(x, y, yaw)."""
        return self.joints[-1][1:]

    def curvature(self, distance: float) -> float:
        """Curvature in 1/m at a distance from the start."""
        return self.arcs[self._arc_at(distance)].curvature

    def pose(self, distance: float) -> tuple[float, float, float]:
        """(x, y, yaw) at a distance from the start; beyond the ends the curve goes on."""
        index = self._arc_at(distance)
        begin, x, y, yaw = self.joints[index]
        return _advance((x, y, yaw), self.arcs[index].curvature, distance - begin)

    def poses(self, distances: Array) -> Array:
        """[n, 3]: x, y, yaw at distances [n] from the start."""
        return np.array([self.pose(distance) for distance in distances.tolist()])

    def _arc_at(self, distance: float) -> int:
        return min(max(bisect_right(self._begins, distance) - 1, 0), len(self.arcs) - 1)

    @cached_property
    def _begins(self) -> list[float]:
        return [joint[0] for joint in self.joints]


def _advance(pose: tuple[float, float, float], curvature: float, distance: float) -> tuple[float, float, float]:
    """The pose after `distance` metres along an arc; a chord's length is 2/c sin(c d / 2)."""
    x, y, yaw = pose
    half = curvature * distance / 2
    chord = distance * math.sin(half) / half if abs(half) > 1e-9 else distance
    return x + chord * math.cos(yaw + half), y + chord * math.sin(yaw + half), yaw + 2 * half


def straight(x: float, y: float, yaw: float, length: float) -> Curve:
    return Curve((x, y, yaw), (Arc(length),))


def quarter_turn(start: tuple[float, float, float], forward: float, sideways: float) -> Curve:
    """A smooth turn by 90° that ends `forward` metres ahead and `sideways` to the left (negative: to the right)."""
    size = min(forward, abs(sideways))
    sign = math.copysign(1.0, sideways)
    step = math.pi / 2 / sum(_TURN_PROFILE)
    unit = Curve((0.0, 0.0, 0.0), tuple(Arc(step, part) for part in _TURN_PROFILE))
    scale = size / unit.end[0]
    turn = tuple(Arc(arc.length * scale, sign * arc.curvature / scale) for arc in unit.arcs)
    before, after = Arc(forward - size), Arc(abs(sideways) - size)
    return Curve(start, tuple(arc for arc in (before, *turn, after) if arc.length > 1e-6))


def chain(curves: Sequence[Curve]) -> Curve:
    """One curve of several that follow each other."""
    return Curve(curves[0].start, tuple(arc for curve in curves for arc in curve.arcs))


def rectangle(x: tuple[float, float], y: tuple[float, float]) -> Array:
    """[4, 2]: corners of an axis-parallel rectangle, counter-clockwise."""
    return np.array([(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])])


def strip(curve: Curve, left: float, right: float, step: float = 1.0) -> Array:
    """[n, 2]: the polygon between `left` and `right` metres beside a curve (both positive to the left)."""
    return np.concatenate([beside(curve, right, step), beside(curve, left, step)[::-1]])


def beside(curve: Curve, offset: float, step: float = 1.0) -> Array:
    """[n, 2]: a line `offset` metres to the left of the curve; straight curves give their two ends."""
    bends = any(arc.curvature for arc in curve.arcs)
    count = max(2, math.ceil(curve.length / step) + 1) if bends else 2
    poses = curve.poses(np.linspace(0.0, curve.length, count))
    normal = np.stack([-np.sin(poses[:, 2]), np.cos(poses[:, 2])], axis=-1)
    moved: Array = poses[:, :2] + offset * normal
    return moved


def oriented_corners(poses: Array, sizes: Array) -> Array:
    """[n, 4, 2]: corners of rectangles with poses [n, 3] (x, y, yaw) and sizes [n, 2] (width, length), CCW."""
    cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
    along = np.stack([cos, sin], axis=-1)[:, None] * (sizes[:, 1, None, None] / 2)
    across = np.stack([-sin, cos], axis=-1)[:, None] * (sizes[:, 0, None, None] / 2)
    signs = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
    corners: Array = poses[:, None, :2] + signs[:, :1] * along + signs[:, 1:] * across
    return corners
