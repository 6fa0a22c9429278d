"""A town as a nuScenes map expansion (version 1.3), and as the picture of its drivable areas and sidewalks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from toolkit.synthetic.schema.map_layers import MapLayers
from toolkit.synthetic.schema.records import Row, rounded
from toolkit.synthetic.world.elements import LANE_WIDTH, STOP_LINE, Connector, Lane, Segment
from toolkit.synthetic.world.geometry import Array, strip
from toolkit.synthetic.world.surfaces import bays, corners, divider, lane_edges, lane_lines, sidewalks, stop_line
from toolkit.synthetic.world.town import Town

_VERSION = "1.3"
_LONGEST_RADIUS = 999.999


def map_expansion(town: Town) -> dict[str, Any]:
    """The content of `maps/expansion/LOCATION.json`."""
    builder = _MapBuilder(town)
    for segment in town.roads.segments:
        builder.add_segment(segment)
    for lane in town.roads.lanes:
        builder.add_lane(lane)
    for connector in town.roads.connectors:
        builder.add_connector(connector)
    builder.add_junctions()
    builder.add_drivable_area()
    return {
        "version": _VERSION,
        "canvas_edge": [town.canvas, town.canvas],
        **builder.layers.records,
        "connectivity": builder.connectivity,
        "arcline_path_3": builder.paths,
    }


class _MapBuilder:
    """Puts the parts of a town into the layers."""

    def __init__(self, town: Town) -> None:
        self._town = town
        self.layers = MapLayers(town)
        self.connectivity: dict[str, dict[str, list[str]]] = {}
        self.paths: dict[str, list[Row]] = {}
        self._area = self.layers.token("drivable area")
        self._areas: list[str] = []

    def add_segment(self, segment: Segment) -> None:
        """The road segment with its two road blocks, dividers, parking bays and sidewalks."""
        half = segment.street.half_width
        area = segment.area(-half, half)
        road = self.layers.add_area("road_segment", segment.name, area, is_intersection=False,
                                    drivable_area_token=self._area)  # fmt: skip
        self._areas.append(road["polygon_token"])
        line = self.layers.line(f"divider {segment.name}", divider(segment))
        self.layers.add("road_divider", f"divider {segment.name}", line_token=line, road_segment_token=road["token"])
        for i, points in enumerate(lane_lines(segment)):
            line = self.layers.line(f"lane line {segment.name} {i}", points)
            self.layers.add(
                "lane_divider", f"lane line {segment.name} {i}",
                line_token=line,
                lane_divider_segments=self._divider_nodes(points, "SINGLE_DASHED_WHITE"),
            )  # fmt: skip
        for name, left, right in (("right", -half, 0.0), ("left", 0.0, half)):
            self._add_block(segment, name, left, right)
        for i, bay in enumerate(bays(segment)):
            block = self.layers.token("road_block", f"{segment.name} {'right' if i == 0 else 'left'}")
            record = self.layers.add_area("carpark_area", f"bay {segment.name} {i}", bay, orientation=0.0,
                                          road_block_token=block)  # fmt: skip
            self._areas.append(record["polygon_token"])
        for i, area in enumerate(sidewalks(segment)):
            self.layers.add_area("walkway", f"sidewalk {segment.name} {i}", area)

    def _add_block(self, segment: Segment, name: str, right: float, left: float) -> None:
        area = segment.area(right, left)
        # Seen along the axis: the corners at its beginning, and at its end.
        low, high = ((0, 3), (1, 2)) if segment.street.axis == 0 else ((0, 1), (3, 2))
        ends = area[list(low)], area[list(high)]
        if (name == "right") != (self._town.roads.side == 1):
            ends = ends[::-1]
        name = f"{segment.name} {name}"
        self.layers.add_area(
            "road_block", name, area,
            from_edge_line_token=self.layers.line(f"from {name}", ends[0]),
            to_edge_line_token=self.layers.line(f"to {name}", ends[1]),
            road_segment_token=self.layers.token("road_segment", segment.name),
        )  # fmt: skip

    def add_lane(self, lane: Lane) -> None:
        left, right = lane_edges(lane)
        roads = self._town.roads
        self.layers.add_area(
            "lane", lane.name, strip(lane.curve, LANE_WIDTH / 2, -LANE_WIDTH / 2),
            lane_type="CAR",
            from_edge_line_token=self.layers.line(f"from {lane.name}", np.array([left[0], right[0]])),
            to_edge_line_token=self.layers.line(f"to {lane.name}", np.array([left[-1], right[-1]])),
            left_lane_divider_segments=self._divider_nodes(left, self._line_kind(lane, inner=roads.side == 1)),
            right_lane_divider_segments=self._divider_nodes(right, self._line_kind(lane, inner=roads.side == -1)),
        )  # fmt: skip
        name = self.layers.token("lane", lane.name)
        self._add_path(name, lane)
        self.connectivity[name] = {
            "incoming": [
                self.layers.token("lane_connector", way.name) for way in roads.connectors if way.outgoing is lane
            ],
            "outgoing": [self.layers.token("lane_connector", way.name) for way in roads.ways_on[lane.name]],
        }
        if lane.end is not None:
            self._add_stop_line(lane)

    def add_connector(self, connector: Connector) -> None:
        area = strip(connector.curve, LANE_WIDTH / 2, -LANE_WIDTH / 2)
        record = self.layers.add_area("lane_connector", connector.name, area)
        self._add_path(record["token"], connector)
        self.connectivity[record["token"]] = {
            "incoming": [self.layers.token("lane", connector.incoming.name)],
            "outgoing": [self.layers.token("lane", connector.outgoing.name)],
        }

    def add_junctions(self) -> None:
        """Each junction as a road segment, with its sidewalk corners and pedestrian crossings."""
        for junction in self._town.roads.junctions.values():
            record = self.layers.add_area("road_segment", f"junction {junction.name}", junction.area(STOP_LINE),
                                          is_intersection=True, drivable_area_token=self._area)  # fmt: skip
            self._areas.append(record["polygon_token"])
            for corner in corners(junction):
                self.layers.add_area("walkway", corner.name, corner.outline)
        for crossing in self._town.roads.crossings.values():
            road = self.layers.token("road_segment", f"junction {crossing.junction.name}")
            self.layers.add_area("ped_crossing", crossing.name, crossing.area, road_segment_token=road)
        for pole in self._town.scenery.poles:
            if pole.signal:
                self._add_traffic_light(pole.x, pole.y, pole.yaw)

    def add_drivable_area(self) -> None:
        self.layers.records["drivable_area"].append({"token": self._area, "polygon_tokens": self._areas})

    def _add_stop_line(self, lane: Lane) -> None:
        assert lane.end is not None
        crossing = f"crossing {lane.end.name} {(lane.heading + 2) % 4}"
        side = "right" if (lane.heading < 2) == (self._town.roads.side == 1) else "left"
        self.layers.add_area(
            "stop_line", f"stop {lane.name}", stop_line(lane),
            stop_line_type="PED_CROSSING",
            ped_crossing_tokens=[self.layers.token("ped_crossing", crossing)],
            traffic_light_tokens=[],
            road_block_token=self.layers.token("road_block", f"{lane.segment.name} {side}"),
        )  # fmt: skip

    def _add_traffic_light(self, x: float, y: float, yaw: float) -> None:
        place = np.array([x, y])
        across = 0.2 * np.array([-math.sin(yaw), math.cos(yaw)])
        name = f"light {x} {y}"
        gx, gy, gyaw = self._town.pose_to_global(np.array([x, y, yaw]))
        items = [{"color": color, "shape": "CIRCLE", "rel_pos": {"tx": 0.0, "ty": 0.0, "tz": 4.0 + 0.35 * i, "rx": 0.0,
                  "ry": 0.0, "rz": 0.0}, "to_road_block_tokens": []}
                 for i, color in enumerate(("GREEN", "YELLOW", "RED"))]  # fmt: skip
        self.layers.add(
            "traffic_light", name,
            line_token=self.layers.line(name, np.array([place - across, place + across])),
            traffic_light_type="VERTICAL", from_road_block_token="", items=items,
            pose=dict(zip(("tx", "ty", "tz", "rx", "ry", "rz"), rounded([gx, gy, 0.0, 0.0, 0.0, gyaw]), strict=True)),
        )  # fmt: skip

    def _add_path(self, name: str, way: Lane | Connector) -> None:
        """Its centre line: each arc is a path whose three parts are an arc, a straight piece and an arc."""
        records = []
        joints = way.curve.joints
        for begin, end, arc in zip(joints[:-1], joints[1:], way.curve.arcs, strict=True):
            straight = arc.curvature == 0.0
            length = round(arc.length, 6)
            records.append({
                "start_pose": rounded(self._town.pose_to_global(np.array(begin[1:])), 6),
                "end_pose": rounded(self._town.pose_to_global(np.array(end[1:])), 6),
                "shape": "RSR" if arc.curvature < 0 else "LSL",
                "radius": _LONGEST_RADIUS if straight else round(1 / abs(arc.curvature), 6),
                "segment_length": [0.0, length, 0.0] if straight else [length, 0.0, 0.0],
            })  # fmt: skip
        self.paths[name] = records

    def _divider_nodes(self, points: Array, kind: str) -> list[Row]:
        return [{"node_token": node, "segment_type": kind} for node in self.layers.nodes(points)]

    def _line_kind(self, lane: Lane, *, inner: bool) -> str:
        if inner:
            return "DOUBLE_SOLID_WHITE" if lane.index == 0 else "SINGLE_DASHED_WHITE"
        return "SINGLE_SOLID_WHITE" if lane.is_outermost else "SINGLE_DASHED_WHITE"
