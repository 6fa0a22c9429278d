"""The areas of the ground, as polygons [n, 2] in the town frame: for the pictures and for the map."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from toolkit.synthetic.world.elements import (
    CORNER_RADIUS,
    CROSSING,
    GUTTER,
    HEADINGS,
    LANE_WIDTH,
    PARKING_WIDTH,
    SIDEWALK_WIDTH,
    STOP_LINE,
    Junction,
    Lane,
    Segment,
)
from toolkit.synthetic.world.geometry import Array, beside, rectangle
from toolkit.synthetic.world.roads import RoadNetwork

BAY_INSET = 2.5
"""Parking bays begin this far from the ends of the lanes, metres."""
_STRIPE, _STRIPE_GAP = 0.5, 0.6
_LINE_WIDTH, _DASH, _DASH_GAP = 0.14, 2.5, 4.0
_STOP_WIDTH = 0.45


@dataclass(frozen=True, eq=False)
class Corner:
    """The sidewalk at one corner of a junction; the first `kerb` points of the outline are its kerb."""

    name: str
    outline: Array
    kerb: int


def bays(segment: Segment) -> tuple[Array, Array]:
    """[4, 2] each: the strips of parking bays on the right and on the left of a segment's axis."""
    near, far = segment.street.half_width, segment.street.half_width + PARKING_WIDTH
    return segment.area(-far, -near, BAY_INSET), segment.area(near, far, BAY_INSET)


def sidewalks(segment: Segment) -> tuple[Array, Array]:
    """[4, 2] each: the sidewalks behind the bays, on the right and on the left of a segment's axis."""
    near = segment.street.half_width + PARKING_WIDTH
    far = near + SIDEWALK_WIDTH
    return segment.area(-far, -near, BAY_INSET), segment.area(near, far, BAY_INSET)


def corners(junction: Junction) -> Iterator[Corner]:
    """The four sidewalk corners of a junction, with what reaches out beside the crossings up to the bays."""
    (cx, cy), (hx, hy) = junction.center, junction.half
    out, behind = STOP_LINE + BAY_INSET, PARKING_WIDTH + SIDEWALK_WIDTH
    for index, (sx, sy) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        angles = [math.radians(degrees) for degrees in range(0, 91, 15)]
        arc = [(CORNER_RADIUS * (1 - math.sin(a)), CORNER_RADIUS * (1 - math.cos(a))) for a in angles]
        points = [(out, 0.0), *arc, (0.0, out), (behind, out), (behind, behind), (out, behind)]
        outline = np.array([(cx + sx * (hx + x), cy + sy * (hy + y)) for x, y in points])
        yield Corner(f"corner {junction.name} {index}", outline, len(arc) + 2)


def stop_line(lane: Lane) -> Array:
    """[4, 2]: the painted line at a lane's end."""
    end = np.array(lane.curve.end)
    forward = np.array([math.cos(end[2]), math.sin(end[2])])
    left = np.array([-forward[1], forward[0]]) * LANE_WIDTH * 0.46
    back = end[:2] - _STOP_WIDTH * forward
    return np.array([back - left, end[:2] - left, end[:2] + left, back + left])


def divider(segment: Segment) -> Array:
    """[2, 2]: the line between the two directions."""
    return beside_axis(segment, 0.0)


def lane_lines(segment: Segment) -> tuple[Array, ...]:
    """[2, 2] each: the lines between lanes of the same direction."""
    offsets = [i * LANE_WIDTH for i in range(1, segment.street.lanes)]
    return tuple(beside_axis(segment, sign * offset) for offset in offsets for sign in (-1, 1))


def beside_axis(segment: Segment, left: float, inset: float = 0.0) -> Array:
    """[2, 2]: a line along a segment, `left` metres to the left of its street's axis."""
    area = segment.area(left, left, inset)
    return area[:2] if segment.street.axis == 0 else area[1:3]


def stripes(junction: Junction, arm: int) -> Iterator[Array]:
    """[4, 2] each: the painted stripes of a pedestrian crossing."""
    half = junction.half[1 - arm % 2] - 0.4
    sign = 1 if arm < 2 else -1
    near, far = (junction.center[arm % 2] + sign * (junction.reach(arm) + d) for d in CROSSING)
    along = (min(near, far), max(near, far))
    count = int((2 * half + _STRIPE_GAP) // (_STRIPE + _STRIPE_GAP))
    first = junction.center[1 - arm % 2] - (count * (_STRIPE + _STRIPE_GAP) - _STRIPE_GAP) / 2
    for i in range(count):
        across = first + i * (_STRIPE + _STRIPE_GAP), first + i * (_STRIPE + _STRIPE_GAP) + _STRIPE
        yield rectangle(along, across) if arm % 2 == 0 else rectangle(across, along)


def white_paint(roads: RoadNetwork) -> Iterator[Array]:
    """[n, 2] each: dashed lane lines, stop lines, crossings, the edges of the bays, arrows."""
    for segment in roads.segments:
        for line in lane_lines(segment):
            yield from _dashes(line)
        edge = segment.street.half_width - GUTTER
        for side in (-1, 1):
            yield _line(beside_axis(segment, side * (edge + 0.1), BAY_INSET), _LINE_WIDTH)
    for lane in roads.lanes:
        if lane.end is not None:
            yield stop_line(lane)
            yield from _arrow(lane, {way.turn for way in roads.ways_on[lane.name]})
    for junction in roads.junctions.values():
        for arm in HEADINGS:
            yield from stripes(junction, arm)


def divider_paint(roads: RoadNetwork) -> Iterator[Array]:
    """[4, 2] each: the double line between the two directions."""
    for segment in roads.segments:
        for side in (-1, 1):
            yield _line(beside_axis(segment, side * 0.16), _LINE_WIDTH)


def _line(ends: Array, width: float) -> Array:
    forward = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    left = np.array([-forward[1], forward[0]]) * width / 2
    return np.array([ends[0] - left, ends[1] - left, ends[1] + left, ends[0] + left])


def _dashes(ends: Array) -> Iterator[Array]:
    length = float(np.linalg.norm(ends[1] - ends[0]))
    forward = (ends[1] - ends[0]) / length
    for i in range(int(length // (_DASH + _DASH_GAP)) + 1):
        begin = i * (_DASH + _DASH_GAP)
        yield _line(ends[0] + np.array([[begin], [min(begin + _DASH, length)]]) * forward, _LINE_WIDTH)


_SHAFT = ((0.0, -0.08), (3.2, -0.08), (3.2, 0.08), (0.0, 0.08))
_HEADS = {
    0: ((3.0, -0.32), (4.6, 0.0), (3.0, 0.32)),
    1: ((2.2, 0.08), (2.5, 0.5), (2.1, 0.5), (2.9, 1.15), (3.6, 0.5), (3.1, 0.5), (2.7, 0.08)),
    -1: ((2.2, -0.08), (2.5, -0.5), (2.1, -0.5), (2.9, -1.15), (3.6, -0.5), (3.1, -0.5), (2.7, -0.08)),
}
"""Arrow parts on the road: forward, left in metres; heads by turn."""


def _arrow(lane: Lane, turns: set[int]) -> Iterator[Array]:
    pose = np.array(lane.curve.pose(lane.curve.length - 12.0))
    forward = np.array([math.cos(pose[2]), math.sin(pose[2])])
    left = np.array([-forward[1], forward[0]])
    for part in (_SHAFT, *(_HEADS[turn] for turn in sorted(turns))):
        points = np.array(part)
        yield pose[:2] + points[:, :1] * forward + points[:, 1:] * left


def lane_edges(lane: Lane) -> tuple[Array, Array]:
    """[2, 2] each: a lane's left and right edges, in its direction."""
    return beside(lane.curve, LANE_WIDTH / 2), beside(lane.curve, -LANE_WIDTH / 2)
