"""Pedestrians: strollers on the sidewalks, and those who cross a street."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from toolkit.synthetic.traffic.actors import ADULT, CHILD, Kind
from toolkit.synthetic.traffic.movers import Vehicle, Walker
from toolkit.synthetic.world.elements import (
    CROSSING,
    GUTTER,
    LANE_WIDTH,
    PARKING_WIDTH,
    SIDEWALK_WIDTH,
    Connector,
    Junction,
    crossing_half,
)
from toolkit.synthetic.world.geometry import Curve, chain, quarter_turn, straight
from toolkit.synthetic.world.roads import RoadNetwork

_WALKERS, _CROSSERS = 100, 14
_APPROACH = 22.0
"""How far from the junction one who crosses comes from, metres."""
_TURN_RADIUS = 0.3


def strollers(roads: RoadNetwork, rng: np.random.Generator, seconds: float) -> Iterator[tuple[Walker, Kind]]:
    """Pedestrians who walk up and down along the streets, each on a line of the sidewalk of their own."""
    lanes = [lane for lane in roads.lanes if lane.is_outermost]
    places = [(lane, k) for lane in lanes for k in range(3)]
    for number, place in enumerate(rng.permutation(len(places))[:_WALKERS].tolist()):
        lane, line = places[place]
        speed = float(rng.uniform(*ADULT.speed)) * (0.0 if rng.uniform() < 0.12 else 1.0)
        offset = -roads.side * (LANE_WIDTH / 2 + GUTTER + PARKING_WIDTH + 1.0 + 0.75 * line)
        x, y, yaw = lane.curve.start
        back = bool(rng.integers(2))
        x, y = x - offset * math.sin(yaw), y + offset * math.cos(yaw)
        start = float(rng.uniform(0, lane.curve.length * 0.6))
        if back:
            x, y = x + lane.curve.length * math.cos(yaw), y + lane.curve.length * math.sin(yaw)
            yaw += math.pi
        curve = _up_and_down((x, y, yaw), lane.curve.length, start + speed * seconds)
        walker = Walker(f"stroller {number}", curve, start, speed, speed=speed)
        yield walker, CHILD if rng.uniform() < 0.12 else ADULT


def crossers(
    roads: RoadNetwork, rng: np.random.Generator, seconds: float, ego: Vehicle
) -> Iterator[tuple[Walker, Kind]]:
    """Pedestrians who cross a street: some beside the ego vehicle's way, so that it need not wait, others anywhere."""
    first, second = [way for way in ego.route if isinstance(way, Connector)][:2]
    everywhere = list(roads.crossings.values())
    beside = [
        crossing
        for way in (first, second)
        for crossing in everywhere
        if crossing.junction is way.junction and crossing.arm not in way.arms
    ]
    elsewhere = [crossing for crossing in everywhere if crossing.junction not in (first.junction, second.junction)]
    for number in range(_CROSSERS):
        choice = beside if number < 4 else elsewhere
        crossing = choice[int(rng.integers(len(choice)))]
        junction, arm = crossing.junction, crossing.arm
        speed = float(rng.uniform(1.4, 1.8))
        side = 1 if rng.integers(2) else -1
        way, kerb, end = _crossing_walk(junction, arm, side, float(rng.uniform(0.7, 2.3)))
        way = chain([way, _up_and_down(way.end, _APPROACH, speed * seconds)])
        near = int(side * (1 if arm in (0, 3) else -1) > 0)
        halves = [crossing_half(junction, arm, half) for half in (near, 1 - near)]
        kerbs = ((kerb, (kerb + end) / 2 + 0.5, halves[0]), (kerb, end, halves[1]))
        start = float(rng.uniform(0.0, kerb - 1.0))
        yield Walker(f"crosser {number}", way, start, speed, kerbs, speed=speed), ADULT


def _crossing_walk(junction: Junction, arm: int, side: int, lane: float) -> tuple[Curve, float, float]:
    """Along the sidewalk towards the junction, over the crossing of an arm, and into the other sidewalk.

    `side` says where it begins, 1 on the left of the arm as seen from the junction, -1 on the right. Also gives the
    distances of the two kerbs. `lane` is where on the crossing's width one walks, in metres.
    """
    half = junction.half[1 - arm % 2]
    beyond = PARKING_WIDTH + SIDEWALK_WIDTH / 2
    walked = half * 2 + beyond * 2
    reach = junction.reach(arm) + CROSSING[0] + lane
    yaw = arm * math.pi / 2
    along, across = (math.cos(yaw), math.sin(yaw)), (-math.sin(yaw), math.cos(yaw))
    out, sideways = reach + _APPROACH, side * (half + beyond)
    x = junction.center[0] + out * along[0] + sideways * across[0]
    y = junction.center[1] + out * along[1] + sideways * across[1]
    inwards = straight(x, y, yaw + math.pi, _APPROACH - 1.0)
    turn = quarter_turn(inwards.end, 1.0, side)
    over = straight(*turn.end, walked - 2.0)
    back = quarter_turn(over.end, 1.0, side)
    curve = chain([inwards, turn, over, back])
    kerb = _APPROACH - 1.0 + turn.length + beyond - 1.0
    return curve, kerb - 0.5, kerb + 2 * half + 0.3


def _up_and_down(start: tuple[float, float, float], length: float, total: float) -> Curve:
    """Straight on for `length` metres, round, back and so on, for at least `total` metres."""
    legs = [straight(*start, length)]
    covered = length
    while covered < total:
        about = quarter_turn(legs[-1].end, _TURN_RADIUS, _TURN_RADIUS)
        legs += [about, quarter_turn(about.end, _TURN_RADIUS, _TURN_RADIUS)]
        legs.append(straight(*legs[-1].end, length))
        covered += length
    return chain(legs)
