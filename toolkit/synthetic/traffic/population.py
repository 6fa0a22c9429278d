"""Who takes part in a scene: the ego vehicle, moving and parked vehicles, pedestrians, and a construction site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.synthetic.traffic.actors import (
    BICYCLE,
    BUS,
    CAR,
    MOTORCYCLE,
    TRUCK,
    Actor,
    Kind,
    Motion,
)
from toolkit.synthetic.traffic.movers import Vehicle
from toolkit.synthetic.traffic.pedestrians import crossers, strollers
from toolkit.synthetic.traffic.simulation import Simulation
from toolkit.synthetic.traffic.standing import construction_site, parked_vehicles, sized_actor
from toolkit.synthetic.world.elements import (
    Connector,
    Lane,
)
from toolkit.synthetic.world.roads import RoadNetwork

EGO_SIZE = (1.73, 4.08, 1.56)
"""Width, length, height in metres."""
REAR_AXLE = 1.35
"""How far the ego vehicle's origin lies behind its centre, metres."""
_WARM_UP = 4.0
_VEHICLES = 44
_KINDS = (CAR, TRUCK, BUS, MOTORCYCLE, BICYCLE)
_SHARES = (0.62, 0.1, 0.07, 0.09, 0.12)


@dataclass(frozen=True, eq=False)
class Traffic:
    """A scene's participants; `ego` is the motion of the ego vehicle's centre."""

    ego: Motion
    actors: tuple[Actor, ...]


def populate(roads: RoadNetwork, rng: np.random.Generator, seconds: float, first_turn: int) -> Traffic:
    """The traffic of a scene that lasts `seconds`; the ego vehicle turns left (1) or right (-1) at first."""
    horizon = seconds + _WARM_UP
    ego = _ego(roads, rng, horizon, first_turn)
    others = list(_vehicles(roads, rng, horizon, ego))
    walkers = [*strollers(roads, rng, horizon), *crossers(roads, rng, horizon, ego)]
    simulation = Simulation(roads, [ego, *(vehicle for vehicle, _ in others)], [walker for walker, _ in walkers])
    motions = simulation.run(-_WARM_UP, seconds)
    kinds = [(mover.name, kind) for mover, kind in others] + [(mover.name, kind) for mover, kind in walkers]
    actors = [sized_actor(name, kind, rng, motions[name]) for name, kind in kinds]
    site = next(lane for lane in roads.lanes if lane.is_outermost and lane.is_beside(ego.route[0]))
    still = [*parked_vehicles(roads, rng, site), *construction_site(rng, site)]
    return Traffic(motions["ego"], (*actors, *still))


def _route(
    roads: RoadNetwork, rng: np.random.Generator, lane: Lane, length: float, turns: Sequence[int] = ()
) -> list[Lane | Connector]:
    """From a lane on, at least `length` metres, never out of the town; `turns` are taken first where possible."""
    route: list[Lane | Connector] = [lane]
    covered = lane.curve.length
    wishes = iter(turns)
    while covered < length:
        ways = [way for way in roads.ways_on[lane.name] if way.outgoing.name in roads.endless]
        wish = next(wishes, None)
        wished = [way for way in ways if way.turn == wish] or ways
        way = wished[int(rng.integers(len(wished)))]
        lane = way.outgoing
        route += [way, lane]
        covered += way.curve.length + lane.curve.length
    return route


def _ego(roads: RoadNetwork, rng: np.random.Generator, horizon: float, first_turn: int) -> Vehicle:
    starts = [
        lane
        for lane in roads.lanes
        if lane.start is not None
        and any(way.turn == first_turn and way.outgoing.name in roads.endless for way in roads.ways_on[lane.name])
    ]
    lane = starts[int(rng.integers(len(starts)))]
    desired = float(rng.uniform(8.5, 9.5))
    route = _route(roads, rng, lane, desired * horizon + 160, turns=(first_turn, 0, -first_turn))
    return Vehicle("ego", route, 6.0, 5.5, desired, EGO_SIZE[1], stops=True, precedes=True)


def _vehicles(
    roads: RoadNetwork, rng: np.random.Generator, horizon: float, ego: Vehicle
) -> Iterator[tuple[Vehicle, Kind]]:
    taken: dict[str, list[float]] = {ego.route[0].name: [ego.distance]}
    lanes = [lane for lane in roads.lanes if lane.name in roads.endless]
    for number in range(_VEHICLES):
        lane = lanes[int(rng.integers(len(lanes)))]
        start = float(rng.uniform(8, lane.curve.length - 8))
        kind = _KINDS[int(rng.choice(len(_KINDS), p=_SHARES))]
        if lane is ego.route[0] and start > ego.distance:
            continue  # or the ego vehicle would wait behind it
        if any(abs(start - other) < 17 for other in taken.setdefault(lane.name, [])):
            continue
        taken[lane.name].append(start)
        desired = float(rng.uniform(*kind.speed))
        route = _route(roads, rng, lane, start + desired * horizon + 160)
        yield Vehicle(f"vehicle {number}", route, start, 0.6 * desired, desired, kind.size[1] * 1.07), kind
