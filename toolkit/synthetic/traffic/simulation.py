"""How the vehicles and pedestrians of a scene move: car following, and turns taken at the junctions.

A vehicle enters a junction only after reserving its way through, which is possible while nobody holds a conflicting
one and nobody walks on the crossings it passes; pedestrians reserve crossings likewise. Only additions, products,
quotients and square roots enter, which are rounded alike on every machine.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import takewhile

import numpy as np

from toolkit.synthetic.traffic.actors import TICK, Motion
from toolkit.synthetic.traffic.movers import ACCELERATION, BRAKE, LOOK_AHEAD, Vehicle, Walker
from toolkit.synthetic.world.elements import Connector
from toolkit.synthetic.world.roads import RoadNetwork

_HEADWAY, _STANDSTILL_GAP = 1.3, 2.2
_LINE_GAP = 0.6
"""How far before a line one stops, metres."""
_STOP_SECONDS = 1.5


Occupants = dict[str, list[tuple[float, Vehicle]]]
"""Who is on a lane or connector, by its name, with the distance from its start in metres."""


class Simulation:
    """Vehicles and walkers of one scene, advanced in ticks."""

    def __init__(self, roads: RoadNetwork, vehicles: Sequence[Vehicle], walkers: Sequence[Walker]) -> None:
        self.roads = roads
        self.vehicles = vehicles
        self.walkers = walkers
        self._ways: dict[str, dict[Vehicle, float]] = defaultdict(dict)
        """Who has reserved a connector, by its name, and where it begins on their route in metres."""
        self._requests: dict[Vehicle, Connector] = {}
        """Who would like to enter a junction, in the order of arrival: nobody overtakes an earlier one."""
        self._walking: dict[str, set[Walker]] = defaultdict(set)
        """Who walks on half a crossing, or towards it from the other half, by its name."""
        self._waiting: dict[str, set[Walker]] = defaultdict(set)
        """Who waits for half a crossing, by its name."""

    def run(self, begin: float, end: float) -> dict[str, Motion]:
        """Motions from `begin` to at least `end` seconds, by the names of vehicles and walkers."""
        movers: list[Vehicle | Walker] = [*self.vehicles, *self.walkers]
        for mover in movers:
            mover.track.append((mover.distance, mover.speed))
        for vehicle in self.vehicles:
            if isinstance(way := vehicle.route[vehicle.at], Connector):
                self._ways[way.name][vehicle] = vehicle.begins[vehicle.at]
        for _ in range(math.ceil((end - begin) / TICK) + 1):
            self._tick()
        return {mover.name: Motion(mover.curve, begin, *np.array(mover.track).T) for mover in movers}

    def _tick(self) -> None:
        occupants: Occupants = defaultdict(list)
        for vehicle in self.vehicles:
            occupants[vehicle.route[vehicle.at].name].append((vehicle.distance - vehicle.begins[vehicle.at], vehicle))
        wanted = [self._wanted(vehicle, occupants) for vehicle in self.vehicles]
        for vehicle, acceleration in zip(self.vehicles, wanted, strict=True):
            vehicle.move(acceleration)
            self._release(vehicle)
        for walker in self.walkers:
            self._walk(walker)

    def _wanted(self, vehicle: Vehicle, occupants: Occupants) -> float:
        """The acceleration of the intelligent driver model (Treiber et al., 2000), with a planned stop at lines."""
        ratio = vehicle.speed / vehicle.free_speed()
        wanted = ACCELERATION * (1 - ratio * ratio * ratio * ratio)
        leader, line = self._ahead(vehicle, occupants)
        if leader is not None:
            gap, speed = max(leader[0], 0.1), leader[1]
            closing = vehicle.speed * (vehicle.speed - speed) / (2 * math.sqrt(ACCELERATION * BRAKE))
            desired_gap = _STANDSTILL_GAP + max(0.0, vehicle.speed * _HEADWAY + closing)
            wanted -= ACCELERATION * (desired_gap / gap) * (desired_gap / gap)
        if line is not None:
            needed = vehicle.speed * vehicle.speed / (2 * max(line - _LINE_GAP, 0.05))
            if needed > 0.75 * BRAKE or line < _LINE_GAP:
                wanted = min(wanted, -needed)
        return wanted

    def _ahead(self, vehicle: Vehicle, occupants: Occupants) -> tuple[tuple[float, float] | None, float | None]:
        """Gap to the vehicle in front and its speed, and gap to a line not to be passed: metres; None if far."""
        for index in range(vehicle.at, len(vehicle.route)):
            element, begin = vehicle.route[index], vehicle.begins[index]
            if begin - vehicle.distance > LOOK_AHEAD:
                break
            ahead = [(s, other) for s, other in occupants[element.name] if begin + s > vehicle.distance]
            if ahead:
                s, other = min(ahead, key=lambda pair: pair[0])
                return (begin + s - other.length / 2 - vehicle.front, other.speed), None
            following = vehicle.route[index + 1] if index + 1 < len(vehicle.route) else None
            if isinstance(following, Connector):
                gap = vehicle.begins[index + 1] - vehicle.front
                if not self._may_enter(vehicle, following, gap, occupants):
                    return None, gap
        return None, None

    def _may_enter(self, vehicle: Vehicle, way: Connector, gap: float, occupants: Occupants) -> bool:
        """Whether the way is reserved for the vehicle, which it becomes here if it can be and the junction is near."""
        if vehicle in self._ways[way.name]:
            return True
        if gap > 8 + vehicle.speed * vehicle.speed / (2 * BRAKE):
            return False
        if vehicle.stops and vehicle.at == 0 and vehicle.waited < _STOP_SECONDS:
            return False
        if vehicle not in self._requests:
            self._requests = {vehicle: way, **self._requests} if vehicle.precedes else {**self._requests, vehicle: way}
        conflicts = self.roads.conflicts[way.name]
        earlier = takewhile(lambda other: other is not vehicle, self._requests)
        if any(self._requests[other].name in conflicts for other in earlier):
            return False
        if any(self._blocks(other, clear) for other, clear in conflicts.items()):
            return False
        if any(self._walking[c] or (self._waiting[c] and not vehicle.precedes) for c in way.crossing_halves):
            return False
        room = vehicle.length + 2 * _STANDSTILL_GAP
        if any(s - other.length / 2 < room and other.speed < 2 for s, other in occupants[way.outgoing.name]):
            return False
        del self._requests[vehicle]
        self._ways[way.name][vehicle] = vehicle.distance + gap + vehicle.length / 2
        return True

    def _blocks(self, way: str, clear: float) -> bool:
        """Whether a vehicle that has reserved a way is not yet `clear` metres along it."""
        return any(vehicle.distance - vehicle.length / 2 - begin < clear for vehicle, begin in self._ways[way].items())

    def _release(self, vehicle: Vehicle) -> None:
        for index in (vehicle.at - 1, vehicle.at - 2):
            if index >= 0 and vehicle.distance - vehicle.length / 2 > vehicle.begins[index + 1]:
                self._ways[vehicle.route[index].name].pop(vehicle, None)

    def _is_driven(self, half: str) -> bool:
        """Whether a vehicle is on its way over half a crossing, or one that precedes would like to be."""
        asked = [way for vehicle, way in self._requests.items() if vehicle.precedes]
        reserved = [way for way in self.roads.connectors if self._ways[way.name]]
        return any(half in way.crossing_halves for way in (*asked, *reserved))

    def _walk(self, walker: Walker) -> None:
        target = walker.desired
        for kerb, end, half in walker.kerbs:
            if walker.distance > end:
                self._walking[half].discard(walker)
            elif walker.distance > kerb - 2.5 and walker not in self._walking[half]:
                if self._is_driven(half):
                    self._waiting[half].add(walker)
                    target = min(target, math.sqrt(2 * 1.5 * max(0.0, kerb - walker.distance)))
                else:
                    self._waiting[half].discard(walker)
                    self._walking[half].add(walker)
        walker.move(target)
