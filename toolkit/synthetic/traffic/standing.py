"""What stands still in a scene: parked vehicles and a construction site; and how actors get their size and colour."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from toolkit.synthetic.traffic.actors import (
    ADULT,
    BARRIER,
    BICYCLE,
    CAR,
    CHILD,
    CONE,
    EXCAVATOR,
    MOTORCYCLE,
    TRAILER,
    TRUCK,
    WORKER,
    Actor,
    Kind,
    Motion,
    standing,
)
from toolkit.synthetic.world.elements import (
    GUTTER,
    LANE_WIDTH,
    PARKING_WIDTH,
    Lane,
)
from toolkit.synthetic.world.geometry import Array
from toolkit.synthetic.world.paint import Color
from toolkit.synthetic.world.roads import RoadNetwork

_PARKED = 170
_PAINTS: tuple[Color, ...] = (
    (236, 236, 233), (24, 25, 28), (126, 131, 136), (178, 182, 185), (150, 26, 32), (32, 62, 122), (64, 70, 78),
    (196, 170, 120), (38, 84, 66), (206, 118, 32), (92, 132, 168), (214, 196, 62),
)  # fmt: skip
_CLOTHES: tuple[Color, ...] = (
    (42, 52, 84), (150, 46, 52), (196, 190, 178), (52, 92, 74), (112, 82, 62), (70, 70, 76), (204, 160, 62),
    (94, 120, 160), (130, 84, 128),
)  # fmt: skip


def sized_actor(name: str, kind: Kind, rng: np.random.Generator, motion: Motion, *, stays: bool = False) -> Actor:
    """An actor with a size about that of its kind, and a colour."""
    width, length, height = (round(mean * float(rng.uniform(0.93, 1.07)), 3) for mean in kind.size)
    palette = _CLOTHES if kind in (ADULT, CHILD) else _PAINTS
    color = palette[int(rng.integers(len(palette)))]
    return Actor(name, kind, (width, length, height), color, motion, stays)


def parked_vehicles(roads: RoadNetwork, rng: np.random.Generator, site: Lane) -> Iterator[Actor]:
    """Vehicles in the parking bays and bicycles on the sidewalks, except beside the lane `site`."""
    lanes = [lane for lane in roads.lanes if lane.is_outermost and lane is not site]
    kinds = (CAR, TRUCK, TRAILER, MOTORCYCLE, BICYCLE)
    slots = [(lane, 5.5 + 11 * slot) for lane in lanes for slot in range(int(lane.curve.length // 11))]
    for number, place in enumerate(rng.permutation(len(slots))[:_PARKED].tolist()):
        lane, along = slots[place]
        kind = kinds[int(rng.choice(len(kinds), p=(0.72, 0.06, 0.05, 0.07, 0.1)))]
        offset = LANE_WIDTH / 2 + PARKING_WIDTH / 2 + GUTTER + 0.1 + (1.6 if kind is BICYCLE else 0.0)
        yield _placed(f"parked {number}", kind, rng, lane, along + float(rng.uniform(-0.8, 0.8)), -roads.side * offset)


def construction_site(rng: np.random.Generator, lane: Lane) -> Iterator[Actor]:
    """A construction site in the parking strip of a lane: an excavator behind barriers and cones, two workers."""
    right = lane.street.center
    x, y, yaw = lane.curve.start
    sideways = (right - y) * math.cos(yaw) if lane.street.axis == 0 else -(right - x) * math.sin(yaw)
    kerb = -math.copysign(1.0, sideways)
    middle = kerb * (LANE_WIDTH / 2 + PARKING_WIDTH / 2 + GUTTER + 0.85)
    begin = lane.curve.length - 36
    yield _placed("excavator", EXCAVATOR, rng, lane, begin + 12, middle)
    for i in range(6):
        along, beside = begin + 5 + 2.4 * i, kerb * (LANE_WIDTH / 2 + 0.25)
        yield _placed(f"barrier {i}", BARRIER, rng, lane, along, beside, math.pi / 2)
    for i in range(5):
        share = i / 4
        beside = kerb * (LANE_WIDTH / 2 + 0.3 + (1 - share) * (PARKING_WIDTH - 0.6))
        yield _placed(f"cone {i}", CONE, rng, lane, begin + 3.6 * share, beside)
    for i in range(3):
        yield _placed(f"cone {5 + i}", CONE, rng, lane, begin + 20.5 + 1.8 * i, kerb * (LANE_WIDTH / 2 + 0.5 + 0.6 * i))
    for i in range(2):
        beside = kerb * (LANE_WIDTH / 2 + GUTTER + PARKING_WIDTH + 0.9 + 0.8 * i)
        yield _placed(f"worker {i}", WORKER, rng, lane, begin + 4 + 14 * i, beside, math.pi / 3)


def _placed(
    name: str, kind: Kind, rng: np.random.Generator, lane: Lane, along: float, left: float, turned: float = 0.0
) -> Actor:
    """An object that stands beside a lane, `left` metres from its middle."""
    x, y, yaw = lane.curve.start
    place: Array = np.array([x, y]) + along * np.array([math.cos(yaw), math.sin(yaw)])
    place = place + left * np.array([-math.sin(yaw), math.cos(yaw)])
    return sized_actor(name, kind, rng, standing(float(place[0]), float(place[1]), yaw + turned), stays=True)
