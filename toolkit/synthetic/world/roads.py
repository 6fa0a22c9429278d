"""The road network of a town: streets in a grid, lanes, and the ways through the junctions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, permutations

import numpy as np

from toolkit.synthetic.world.elements import (
    CROSSING,
    HEADINGS,
    LANE_WIDTH,
    STOP_LINE,
    Connector,
    Crossing,
    Junction,
    Lane,
    Segment,
    Street,
    crossing_name,
)
from toolkit.synthetic.world.geometry import Array, Curve, quarter_turn, rectangle, straight

_CLEARANCE = 2.9
"""Ways through a junction that come closer than this cannot be used at the same time, metres."""
_MERGED = 7.0
"""One may follow a vehicle that has come so far on the part of the way shared with it, metres."""
_MARGIN = 75.0
"""Length of the streets that lead out of the town, metres."""


@dataclass(frozen=True, eq=False)
class RoadNetwork:
    """Streets and everything that follows from them. `side` is 1 where one drives on the right, -1 on the left."""

    columns: tuple[Street, ...]
    rows: tuple[Street, ...]
    side: int

    @cached_property
    def size(self) -> tuple[float, float]:
        """Extent of the town along x and y, from 0, metres."""
        return self.columns[-1].center + _MARGIN, self.rows[-1].center + _MARGIN

    @cached_property
    def junctions(self) -> dict[tuple[int, int], Junction]:
        """By (column, row)."""
        return {
            (i, j): Junction(
                f"{column.name}-{row.name}", i, j, (column.center, row.center), (column.half_width, row.half_width)
            )
            for i, column in enumerate(self.columns)
            for j, row in enumerate(self.rows)
        }

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(segment for street in (*self.rows, *self.columns) for segment in self._segments(street))

    @cached_property
    def lanes(self) -> tuple[Lane, ...]:
        return tuple(self._lanes())

    @cached_property
    def connectors(self) -> tuple[Connector, ...]:
        return tuple(
            connector
            for lane in self.lanes
            if lane.end is not None
            for turn in (0, 1, -1)
            for connector in self._connectors(lane, turn)
        )

    @cached_property
    def crossings(self) -> dict[str, Crossing]:
        """By name."""
        found = {}
        for junction in self.junctions.values():
            for arm in HEADINGS:
                near, far = (junction.reach(arm) + d for d in CROSSING)
                half = junction.half[1 - arm % 2]
                name = crossing_name(junction, arm)
                found[name] = Crossing(name, junction, arm, _on_arm(junction, arm, near, far, half))
        return found

    @cached_property
    def ways_on(self) -> dict[str, tuple[Connector, ...]]:
        """The connectors that begin at a lane, by its name."""
        ways: dict[str, tuple[Connector, ...]] = {lane.name: () for lane in self.lanes}
        for connector in self.connectors:
            ways[connector.incoming.name] += (connector,)
        return ways

    @cached_property
    def endless(self) -> frozenset[str]:
        """Names of the lanes from which one can drive on for ever without leaving the town."""
        names = {lane.name for lane in self.lanes if lane.end is not None}
        while True:
            kept = {name for name in names if any(way.outgoing.name in names for way in self.ways_on[name])}
            if kept == names:
                return frozenset(names)
            names = kept

    @cached_property
    def conflicts(self) -> dict[str, dict[str, float]]:
        """Per connector the others that come too close to it, by name, and the distance along the other from which
        on it is out of the way, metres.
        """
        found: dict[str, dict[str, float]] = {connector.name: {} for connector in self.connectors}
        lines = {connector.name: _sampled(connector.curve) for connector in self.connectors}
        for a, b in permutations(self.connectors, 2):
            if a.junction is b.junction:
                near = np.linalg.norm(lines[a.name][:, None] - lines[b.name], axis=-1).min(axis=0) < _CLEARANCE
                if near.any():
                    first, last = np.flatnonzero(near)[[0, -1]] / (len(near) - 1) * b.curve.length
                    # One that merges is soon in front, as one that crosses is soon away.
                    found[a.name][b.name] = float(min(last, first + _MERGED) + 1)
        return found

    def _lanes(self) -> Iterator[Lane]:
        for segment in self.segments:
            for heading in (segment.street.axis, segment.street.axis + 2):
                for index in range(segment.street.lanes):
                    yield self._lane(segment, heading, index)

    def _segments(self, street: Street) -> Iterator[Segment]:
        stops = [
            j for j in self.junctions.values() if (self.rows[j.row], self.columns[j.column])[street.axis] is street
        ]
        ends = [None, *stops, None]
        for low, high in pairwise(ends):
            begin = 0.0 if low is None else low.center[street.axis] + low.reach(street.axis) + STOP_LINE
            end = self.size[street.axis]
            if high is not None:
                end = high.center[street.axis] - high.reach(street.axis) - STOP_LINE
            yield Segment(street, low, high, begin, end)

    def _lane(self, segment: Segment, heading: int, index: int) -> Lane:
        forward = heading < 2
        street, along = segment.street, segment.begin if forward else segment.end
        beside = street.center - (index + 0.5) * LANE_WIDTH * self.side * (1 if heading in (0, 3) else -1)
        x, y = (along, beside) if street.axis == 0 else (beside, along)
        curve = straight(x, y, heading * math.pi / 2, segment.end - segment.begin)
        return Lane(
            f"lane {segment.name} {'forward' if forward else 'backward'} {index}", segment, heading, index, curve
        )

    def _connectors(self, lane: Lane, turn: int) -> Iterator[Connector]:
        assert lane.end is not None
        heading = (lane.heading + turn) % 4
        kerbside = turn == -self.side
        if turn and lane.index != (lane.street.lanes - 1 if kerbside else 0):
            return
        for other in self.lanes:
            if other.start is not lane.end or other.heading != heading:
                continue
            wanted = lane.index if not turn else (other.street.lanes - 1 if kerbside else 0)
            if other.index == wanted:
                curve = _through(lane.curve, other.curve, turn)
                yield Connector(f"way from {lane.name} to {other.name}", lane.end, lane, other, curve, turn)


def _through(before: Curve, after: Curve, turn: int) -> Curve:
    x, y, yaw = before.end
    dx, dy = after.start[0] - x, after.start[1] - y
    forward, left = dx * math.cos(yaw) + dy * math.sin(yaw), dy * math.cos(yaw) - dx * math.sin(yaw)
    return quarter_turn(before.end, forward, left) if turn else straight(x, y, yaw, forward)


def _sampled(curve: Curve) -> Array:
    return curve.poses(np.linspace(0.0, curve.length, math.ceil(curve.length) + 1))[:, :2]


def _on_arm(junction: Junction, arm: int, near: float, far: float, half: float) -> Array:
    """[4, 2]: the rectangle on an arm between two distances from the junction's centre."""
    sign = 1 if arm < 2 else -1
    center = junction.center
    along = center[arm % 2] + sign * near, center[arm % 2] + sign * far
    across = center[1 - arm % 2] - half, center[1 - arm % 2] + half
    x, y = (along, across) if arm % 2 == 0 else (across, along)
    return rectangle((min(x), max(x)), (min(y), max(y)))


def build_roads(rng: np.random.Generator, side: int) -> RoadNetwork:
    """A grid of three by three streets with one or two lanes in each direction, blocks of 80 to 105 metres."""

    def streets(axis: int, letter: str) -> tuple[Street, ...]:
        gaps = rng.integers(96, 118, size=2).tolist()
        centers = [_MARGIN, _MARGIN + gaps[0], _MARGIN + gaps[0] + gaps[1]]
        wide = int(rng.integers(3))
        return tuple(Street(f"{letter}{i}", axis, float(c), 2 if i == wide else 1) for i, c in enumerate(centers))

    return RoadNetwork(columns=streets(1, "avenue"), rows=streets(0, "street"), side=side)
