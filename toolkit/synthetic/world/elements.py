"""What a road network is made of: streets, junctions, segments, lanes, connectors, pedestrian crossings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from toolkit.synthetic.world.geometry import Array, Curve, rectangle

LANE_WIDTH = 3.5
GUTTER = 0.3
"""Between the outermost lane and the kerb, metres."""
PARKING_WIDTH = 2.4
SIDEWALK_WIDTH = 3.4
CORNER_RADIUS = 5.0
CROSSING = (CORNER_RADIUS + 0.6, CORNER_RADIUS + 3.6)
"""Where a pedestrian crossing begins and ends on an arm, metres from the edge of the crossed street."""
STOP_LINE = CORNER_RADIUS + 5.0
"""Where the lanes of an arm end and the junction begins, metres from the edge of the crossed street."""
HEADINGS = (0, 1, 2, 3)
"""East, north, west, south: multiples of 90 degrees, counter-clockwise from x."""


@dataclass(frozen=True)
class Street:
    """A straight two-way street across the town: along x (axis 0) at y = `center`, or along y (axis 1) at x."""

    name: str
    axis: int
    center: float
    lanes: int
    """Lanes in each direction."""

    @property
    def half_width(self) -> float:
        """From the centre to the kerb beside the junctions, metres; along the lanes there are parking bays beyond."""
        return self.lanes * LANE_WIDTH + GUTTER


@dataclass(frozen=True)
class Junction:
    """Where two streets cross; `half` is the half width of the street along y and of the one along x."""

    name: str
    column: int
    row: int
    center: tuple[float, float]
    half: tuple[float, float]

    def reach(self, heading: int) -> float:
        """From the centre to the edge of the street crossed by the arm in direction `heading`, metres."""
        return self.half[heading % 2]

    def area(self, beyond: float) -> Array:
        """[n, 2]: the crossing area with its arms, `beyond` metres past the edges, with rounded corners inside."""
        points: list[tuple[float, float]] = []
        (cx, cy), (hx, hy) = self.center, self.half
        for sx, sy in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
            corner = [(hx + beyond, hy)]
            for degrees in range(0, 91, 15):
                a = math.radians(degrees)
                corner.append((hx + CORNER_RADIUS * (1 - math.sin(a)), hy + CORNER_RADIUS * (1 - math.cos(a))))
            corner.append((hx, hy + beyond))
            points += [(cx + sx * x, cy + sy * y) for x, y in (corner if sx * sy > 0 else corner[::-1])]
        return np.array(points)


@dataclass(frozen=True)
class Segment:
    """A street between two junctions, or between the town's edge (None) and one: where its lanes begin and end along
    the street's axis, metres.
    """

    street: Street
    low: Junction | None
    high: Junction | None
    begin: float
    end: float

    @property
    def name(self) -> str:
        return f"{self.street.name} {self.low.name if self.low else 'edge'} {self.high.name if self.high else 'edge'}"

    def area(self, right: float, left: float, inset: float = 0.0) -> Array:
        """[4, 2]: the part of its length, `inset` shorter at each end, between two distances from the street's centre,
        metres; `left` is on the left when looking along the axis.
        """
        along = self.begin + inset, self.end - inset
        if self.street.axis == 0:
            return rectangle(along, (self.street.center + right, self.street.center + left))
        return rectangle((self.street.center - left, self.street.center - right), along)


@dataclass(frozen=True)
class Lane:
    """A straight lane in the direction `heading`; `index` 0 is next to the street's centre."""

    name: str
    segment: Segment
    heading: int
    index: int
    curve: Curve

    @property
    def street(self) -> Street:
        return self.segment.street

    @property
    def start(self) -> Junction | None:
        """The junction that it leaves; None at the town's edge."""
        return self.segment.low if self.heading < 2 else self.segment.high

    @property
    def end(self) -> Junction | None:
        """The junction that it leads to; None at the town's edge."""
        return self.segment.high if self.heading < 2 else self.segment.low

    @property
    def half(self) -> int:
        """The side of the street's centre: 1 where the coordinate across the street is larger, else 0."""
        return int(self.curve.start[1 - self.street.axis] > self.street.center)

    def is_beside(self, other: Lane | Connector) -> bool:
        """Whether it is the other lane, or one with the same direction in the same segment."""
        return isinstance(other, Lane) and (other.segment, other.heading) == (self.segment, self.heading)

    @property
    def is_outermost(self) -> bool:
        return self.index == self.street.lanes - 1


@dataclass(frozen=True)
class Connector:
    """The way from a lane through a junction to another lane; `turn` is 1 left, -1 right, 0 straight on."""

    name: str
    junction: Junction
    incoming: Lane
    outgoing: Lane
    curve: Curve
    turn: int

    @property
    def arms(self) -> tuple[int, int]:
        """The arms of the junction on which it comes in and leaves."""
        return (self.incoming.heading + 2) % 4, self.outgoing.heading

    @property
    def crossing_halves(self) -> tuple[str, str]:
        """The halves of pedestrian crossings that it passes."""
        entry, exit_ = self.arms
        return (
            crossing_half(self.junction, entry, self.incoming.half),
            crossing_half(self.junction, exit_, self.outgoing.half),
        )


@dataclass(frozen=True)
class Crossing:
    """A pedestrian crossing on one arm of a junction."""

    name: str
    junction: Junction
    arm: int
    area: Array


def crossing_name(junction: Junction, arm: int) -> str:
    return f"crossing {junction.name} {arm}"


def crossing_half(junction: Junction, arm: int, half: int) -> str:
    """The half of a crossing on one side of the street's centre: 1 where the coordinate is larger, else 0."""
    return f"{crossing_name(junction, arm)} {half}"
