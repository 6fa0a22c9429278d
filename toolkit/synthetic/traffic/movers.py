"""Vehicles and pedestrians of the simulation: where they are on their way, and how they take a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from toolkit.synthetic.traffic.actors import TICK
from toolkit.synthetic.world.elements import Connector, Lane
from toolkit.synthetic.world.geometry import Curve, chain

BRAKE, ACCELERATION = 2.0, 1.6
"""Comfortable braking and starting, m/s²."""
_HARDEST, _JERK = 6.0, 10.0
"""Emergency braking, m/s²; change of the acceleration, m/s³."""
_TURN_ACCELERATION = 2.2
"""Sideways acceleration in turns, m/s²."""
LOOK_AHEAD = 60.0
"""How far ahead one drives by, metres."""


@dataclass(eq=False)
class Vehicle:
    """A vehicle on its route (lanes and connectors in turn); `distance` is its centre's from the route's start."""

    name: str
    route: Sequence[Lane | Connector]
    distance: float
    speed: float
    desired: float
    length: float
    stops: bool = False
    """Whether it halts at the first junction although the way is free, as at a stop sign."""
    precedes: bool = False
    """Whether the others let it go first at junctions, so that a scene does not pass with waiting."""
    acceleration: float = 0.0
    waited: float = 0.0
    track: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.curve = chain([element.curve for element in self.route])
        self.begins = [0.0]
        for element in self.route:
            self.begins.append(self.begins[-1] + element.curve.length)
        self.limits = list(_turn_limits(self.curve))
        self.at = 0
        self._advance_element()

    @property
    def front(self) -> float:
        return self.distance + self.length / 2

    def move(self, wanted: float) -> None:
        """One tick with the acceleration that is wanted, as far as it can change so fast."""
        change = min(max(wanted - self.acceleration, -_JERK * TICK), _JERK * TICK)
        self.acceleration = min(max(self.acceleration + change, -_HARDEST), ACCELERATION)
        before = self.speed
        self.speed = max(0.0, before + self.acceleration * TICK)
        if self.speed == 0.0:
            self.acceleration = 0.0
        self.distance += (before + self.speed) / 2 * TICK
        self.waited = self.waited + TICK if self.speed < 0.05 else 0.0
        self._advance_element()
        self.track.append((self.distance, self.speed))

    def free_speed(self) -> float:
        """The speed to have now to be slow enough in the turns ahead, m/s."""
        speed = self.desired
        for begin, end, limit in self.limits:
            if end > self.distance and begin < self.distance + LOOK_AHEAD:
                ahead = max(0.0, begin - self.distance)
                speed = min(speed, math.sqrt(limit * limit + 2 * 0.7 * BRAKE * ahead))
        return speed

    def _advance_element(self) -> None:
        while self.at < len(self.route) - 1 and self.distance >= self.begins[self.at + 1]:
            self.at += 1


@dataclass(eq=False)
class Walker:
    """A pedestrian on a path; `kerbs` says where it leads over halves of crossings: distance of the kerb where one
    waits, distance of the half's end, name of the half.
    """

    name: str
    curve: Curve
    distance: float
    desired: float
    kerbs: Sequence[tuple[float, float, str]] = ()
    speed: float = 0.0
    track: list[tuple[float, float]] = field(default_factory=list)

    def move(self, target: float) -> None:
        """One tick towards a speed."""
        before = self.speed
        self.speed = min(max(target, before - 2.5 * TICK), before + 1.5 * TICK)
        self.distance += (before + self.speed) / 2 * TICK
        self.track.append((self.distance, self.speed))


def _turn_limits(curve: Curve) -> list[tuple[float, float, float]]:
    """Where the curve bends: begin, end, highest speed in m/s."""
    limits = []
    for (begin, *_), arc in zip(curve.joints, curve.arcs, strict=False):
        if arc.curvature:
            limits.append((begin, begin + arc.length, math.sqrt(_TURN_ACCELERATION / abs(arc.curvature))))
    return limits
