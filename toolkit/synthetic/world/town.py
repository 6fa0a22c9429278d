"""A town: its roads, what stands beside them, and where it lies in the map's global frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from toolkit.synthetic.versions import Location
from toolkit.synthetic.world.geometry import Array
from toolkit.synthetic.world.roads import RoadNetwork, build_roads
from toolkit.synthetic.world.scenery import Scenery, build_scenery


@dataclass(frozen=True, eq=False)
class Town:
    """A location's made-up town. `angle` turns the town frame into the global one, radians counter-clockwise."""

    location: Location
    seed: int
    roads: RoadNetwork
    scenery: Scenery
    angle: float

    @cached_property
    def canvas(self) -> int:
        """Side of the square map, metres; the town lies in its middle."""
        return math.ceil(math.hypot(*self.roads.size) / 10) * 10

    def to_global(self, points: Array) -> Array:
        """Points [..., 2] of the town frame in the global frame, metres."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        x, y = (points[..., i] - self.roads.size[i] / 2 for i in range(2))
        return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1) + self.canvas / 2

    def pose_to_global(self, pose: Array) -> tuple[float, float, float]:
        """A pose (x, y, yaw) of the town frame in the global frame, yaw in (-π, π]."""
        x, y = self.to_global(pose[:2]).tolist()
        yaw = float(pose[2]) + self.angle
        return x, y, math.pi - (math.pi - yaw) % (2 * math.pi)


def build_town(location: Location, seed: int) -> Town:
    """The town of a location: the same for every scene there."""
    rng = np.random.Generator(np.random.PCG64([seed, *location.name.encode()]))
    roads = build_roads(rng, location.side)
    angle = math.radians(int(rng.integers(5, 86)))
    return Town(location, seed, roads, build_scenery(roads, rng), angle)
