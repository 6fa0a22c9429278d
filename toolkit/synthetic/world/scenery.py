"""What stands beside the roads and is not annotated: buildings, trees, street lamps, traffic lights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from toolkit.synthetic.world.elements import CORNER_RADIUS, HEADINGS, PARKING_WIDTH, SIDEWALK_WIDTH
from toolkit.synthetic.world.geometry import Array
from toolkit.synthetic.world.paint import Color
from toolkit.synthetic.world.roads import RoadNetwork
from toolkit.synthetic.world.surfaces import beside_axis

_WALLS: tuple[Color, ...] = (
    (172, 122, 98), (196, 186, 168), (150, 152, 156), (206, 198, 184), (124, 104, 92), (178, 160, 132),
    (136, 146, 158), (188, 146, 120), (98, 112, 122),
)  # fmt: skip
_FRONT_GARDEN = 2.5
"""Between sidewalk and houses, metres."""


@dataclass(frozen=True, eq=False)
class Building:
    """A block of a building: pose (x, y, yaw), size (width, length, height) in metres, colour of its walls."""

    pose: Array
    size: tuple[float, float, float]
    color: Color
    storeys: int
    style: int


@dataclass(frozen=True)
class Tree:
    """A tree: place, height in metres, a number that shapes its crown."""

    x: float
    y: float
    height: float
    shape: int


@dataclass(frozen=True)
class Pole:
    """A street lamp or a traffic light (`signal`); `yaw` is where its arm, or the light, points to."""

    x: float
    y: float
    yaw: float
    signal: bool


@dataclass(frozen=True, eq=False)
class Scenery:
    """All of a town's."""

    buildings: tuple[Building, ...]
    trees: tuple[Tree, ...]
    poles: tuple[Pole, ...]


def build_scenery(roads: RoadNetwork, rng: np.random.Generator) -> Scenery:
    """Houses around every block, trees on the sidewalks and in the gaps, lamps, lights at the junctions."""
    houses = list(_houses(roads, rng))
    trees = [*_street_trees(roads, rng), *_yard_trees(roads, rng, houses)]
    return Scenery(tuple(houses), tuple(trees), tuple(_poles(roads)))


def _blocks(roads: RoadNetwork) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Extents along x and y of what lies between the sidewalks."""
    behind = PARKING_WIDTH + SIDEWALK_WIDTH

    def extents(streets: tuple[tuple[float, float], ...], size: float) -> list[tuple[float, float]]:
        edges = [0.0]
        for center, half in streets:
            edges += [center - half - behind, center + half + behind]
        edges.append(size)
        return list(zip(edges[::2], edges[1::2], strict=True))

    columns = tuple((street.center, street.half_width) for street in roads.columns)
    rows = tuple((street.center, street.half_width) for street in roads.rows)
    for x in extents(columns, roads.size[0]):
        for y in extents(rows, roads.size[1]):
            yield x, y


def _houses(roads: RoadNetwork, rng: np.random.Generator) -> Iterator[Building]:
    for x, y in _blocks(roads):
        depth = float(rng.uniform(10, 13))
        inner_x, inner_y = (x[0] + _FRONT_GARDEN, x[1] - _FRONT_GARDEN), (y[0] + _FRONT_GARDEN, y[1] - _FRONT_GARDEN)
        for front, yaw in ((inner_y[0], -math.pi / 2), (inner_y[1], math.pi / 2)):
            inwards = front - math.copysign(depth / 2, yaw)
            for begin, end in _plots(rng, *inner_x):
                yield _house(rng, ((begin + end) / 2, inwards), yaw, (end - begin, depth))
        for front, yaw in ((inner_x[0], math.pi), (inner_x[1], 0.0)):
            inwards = front - (depth / 2 if yaw == 0.0 else -depth / 2)
            for begin, end in _plots(rng, inner_y[0] + depth + 1, inner_y[1] - depth - 1):
                yield _house(rng, (inwards, (begin + end) / 2), yaw, (end - begin, depth))


def _plots(rng: np.random.Generator, begin: float, end: float) -> Iterator[tuple[float, float]]:
    at = begin
    while end - at > 9:
        width = min(float(rng.uniform(10, 19)), end - at)
        if rng.uniform() < 0.86:
            yield at, at + width
        at += width + (float(rng.uniform(2.0, 5.0)) if rng.uniform() < 0.3 else 0.0)


def _house(rng: np.random.Generator, center: tuple[float, float], yaw: float, size: tuple[float, float]) -> Building:
    storeys = int(rng.choice((2, 3, 4, 5, 7, 10), p=(0.22, 0.28, 0.22, 0.14, 0.09, 0.05)))
    color = _WALLS[int(rng.integers(len(_WALLS)))]
    height = 3.2 * storeys + float(rng.uniform(0.6, 1.6))
    return Building(np.array([*center, yaw]), (*size, height), color, storeys, int(rng.integers(3)))


def _street_trees(roads: RoadNetwork, rng: np.random.Generator) -> Iterator[Tree]:
    for segment in roads.segments:
        if rng.uniform() < 0.3:
            continue
        for side in (-1, 1):
            line = beside_axis(segment, side * (segment.street.half_width + PARKING_WIDTH + 0.5), 6.0)
            length = float(np.linalg.norm(line[1] - line[0]))
            for i in range(int(length // 12)):
                if rng.uniform() < 0.75:
                    x, y = (line[0] + (line[1] - line[0]) * (12 * i + 3) / length).tolist()
                    yield Tree(x, y, float(rng.uniform(5.5, 9)), int(rng.integers(1000)))


def _yard_trees(roads: RoadNetwork, rng: np.random.Generator, houses: list[Building]) -> Iterator[Tree]:
    """Trees wherever there is no house: front to back through every block, and a belt around the town."""
    centers = np.array([house.pose[:2] for house in houses])
    radii = np.array([math.hypot(*house.size[:2]) / 2 + 2.5 for house in houses])
    for x, y in _blocks(roads):
        for _ in range(10):
            place = np.array([rng.uniform(x[0] + 2, x[1] - 2), rng.uniform(y[0] + 2, y[1] - 2)])
            if (np.hypot(*(centers - place).T) > radii).all():
                yield Tree(float(place[0]), float(place[1]), float(rng.uniform(6, 12)), int(rng.integers(1000)))


def _poles(roads: RoadNetwork) -> Iterator[Pole]:
    for segment in roads.segments:
        for side in (-1, 1):
            away = side * (segment.street.half_width + PARKING_WIDTH + 0.5)
            line = beside_axis(segment, away, 6.0)
            length = float(np.linalg.norm(line[1] - line[0]))
            yaw = segment.street.axis * math.pi / 2 - side * math.pi / 2
            for i in range(int(length // 24)):
                x, y = (line[0] + (line[1] - line[0]) * (24 * i + 9 + 12 * (side > 0)) / length).tolist()
                yield Pole(x, y, yaw, signal=False)
    for junction in roads.junctions.values():
        for heading in HEADINGS:
            # On the far side of the junction, beside the lanes that come in the direction `heading`.
            yaw = heading * math.pi / 2
            out = junction.reach(heading) + CORNER_RADIUS - 0.5
            aside = -roads.side * (junction.half[1 - heading % 2] + 1.2)
            x = junction.center[0] + out * math.cos(yaw) - aside * math.sin(yaw)
            y = junction.center[1] + out * math.sin(yaw) + aside * math.cos(yaw)
            yield Pole(x, y, yaw + math.pi, signal=True)
