"""What stands and moves in the town: kinds with their nuScenes category and size, and motions along curves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from toolkit.synthetic.world.geometry import Arc, Array, Curve
from toolkit.synthetic.world.paint import Color

TICK = 0.05
"""Seconds between two steps of the simulation."""


@dataclass(frozen=True)
class Kind:
    """A kind of object: nuScenes category, mean size (width, length, height) in metres, speed limits in m/s."""

    category: str
    size: tuple[float, float, float]
    speed: tuple[float, float] = (0.0, 0.0)


CAR = Kind("vehicle.car", (1.9, 4.5, 1.55), (7.5, 10.0))
TRUCK = Kind("vehicle.truck", (2.45, 7.6, 3.1), (6.5, 8.5))
BUS = Kind("vehicle.bus.rigid", (2.75, 11.2, 3.3), (6.5, 8.5))
TRAILER = Kind("vehicle.trailer", (2.4, 9.0, 3.5))
EXCAVATOR = Kind("vehicle.construction", (2.5, 5.8, 3.0))
MOTORCYCLE = Kind("vehicle.motorcycle", (0.8, 2.1, 1.5), (7.5, 10.0))
BICYCLE = Kind("vehicle.bicycle", (0.65, 1.75, 1.6), (3.6, 5.0))
ADULT = Kind("human.pedestrian.adult", (0.65, 0.7, 1.75), (1.1, 1.6))
CHILD = Kind("human.pedestrian.child", (0.5, 0.5, 1.25), (1.0, 1.3))
WORKER = Kind("human.pedestrian.construction_worker", (0.7, 0.7, 1.75), (1.0, 1.3))
CONE = Kind("movable_object.trafficcone", (0.4, 0.4, 0.75))
BARRIER = Kind("movable_object.barrier", (1.9, 0.55, 1.0))


@dataclass(frozen=True)
class MotionState:
    """A moment of a motion: distance along the curve in metres, pose (x, y, yaw), speed in m/s, acceleration along the
    path in m/s², curvature in 1/m.
    """

    distance: float
    pose: Array
    speed: float
    acceleration: float
    curvature: float


@dataclass(frozen=True, eq=False)
class Motion:
    """Motion along a curve: `distance` and `speed` [n] every `TICK` seconds from `begin`; the acceleration is constant
    between ticks.
    """

    curve: Curve
    begin: float
    distance: Array
    speed: Array

    def at(self, time: float, ahead: float = 0.0) -> MotionState:
        """The state at a time in seconds, `ahead` metres further along the curve."""
        if self._rest is not None and not ahead:
            return self._rest
        ticks = (time - self.begin) / TICK
        index = int(min(max(ticks, 0), len(self.distance) - 2))
        since = (ticks - index) * TICK
        speed = float(self.speed[index])
        acceleration = float(self.speed[index + 1] - speed) / TICK
        distance = float(self.distance[index]) + since * (speed + since * acceleration / 2) + ahead
        pose = np.array(self.curve.pose(distance))
        return MotionState(distance, pose, speed + since * acceleration, acceleration, self.curve.curvature(distance))

    @cached_property
    def _rest(self) -> MotionState | None:
        """The state of what never moves."""
        if self.distance[0] != self.distance[-1]:
            return None
        distance = float(self.distance[0])
        return MotionState(distance, np.array(self.curve.pose(distance)), 0.0, 0.0, 0.0)


def standing(x: float, y: float, yaw: float) -> Motion:
    return Motion(Curve((x, y, yaw), (Arc(1.0),)), 0.0, np.zeros(2), np.zeros(2))


@dataclass(frozen=True, eq=False)
class Actor:
    """One annotated object. `size` is (width, length, height) in metres; `stays` if it never moves (parked)."""

    name: str
    kind: Kind
    size: tuple[float, float, float]
    color: Color
    motion: Motion
    stays: bool = False

    def attribute(self, speed: float) -> str:
        """Its nuScenes attribute at a speed in m/s; empty for what has none."""
        family = self.kind.category.split(".")[0]
        moves = speed > 0.2
        if family == "movable_object":
            return ""
        if family == "human":
            return "pedestrian.moving" if moves else "pedestrian.standing"
        if self.kind in (BICYCLE, MOTORCYCLE):
            return "cycle.without_rider" if self.stays else "cycle.with_rider"
        return "vehicle.moving" if moves else "vehicle.parked" if self.stays else "vehicle.stopped"
