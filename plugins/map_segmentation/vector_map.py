"""Lines of a vector map around the vehicle: dividers, pedestrian crossings, and boundaries of the road.

Which layers they are of, and how they are cut and sampled, follows HDMapNet (Li et al. 2021), whose code UniAD uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from plugins.map_segmentation.metrics import KINDS
from toolkit.data.frames import Float64Array
from toolkit.data.ground_truth import Layers

DIVIDER, CROSSING, CONTOUR = range(len(KINDS))
DIVIDER_LAYERS = ("road_divider", "lane_divider")
CROSSING_LAYER = "ped_crossing"
ROAD_LAYERS = ("road_segment", "lane")
"""The outline of their union is the boundary of the road."""
DRIVABLE_LAYER = "drivable_area"
LAYERS = (*DIVIDER_LAYERS, CROSSING_LAYER, *ROAD_LAYERS, DRIVABLE_LAYER)
HALF_EXTENT = 51.2
"""Of the square that is looked at (m)."""
BOUNDARY_MARGIN = 0.2
"""By which the boundary ends within the square, lest the square's own edge be taken for one (m)."""
SAMPLE_METRES = 1.0
Geometries = NDArray[np.object_]


@dataclass(frozen=True)
class Polyline:
    """Points [P, 2] in metres, and which of `KINDS` it is."""

    points: Float64Array
    kind: int


@dataclass(frozen=True, eq=False)
class RoadMap:
    """Layers of a place's map (global frame, m), each with a tree that finds what is near."""

    layers: Mapping[str, tuple[Geometries, shapely.STRtree]]

    @classmethod
    def of(cls, layers: Layers) -> RoadMap:
        """From `LAYERS`. Of a crossing the two long edges remain. Roads that cross themselves are left out."""
        kept = {name: layers[name] for name in DIVIDER_LAYERS}
        kept[CROSSING_LAYER] = _long_edges(layers[CROSSING_LAYER])
        kept |= {name: layers[name][shapely.is_valid(layers[name])] for name in ROAD_LAYERS}
        kept[DRIVABLE_LAYER] = shapely.make_valid(layers[DRIVABLE_LAYER])
        return cls({name: (geometries, shapely.STRtree(geometries)) for name, geometries in kept.items()})

    def around(self, layer: str, center: Float64Array, yaw: float) -> Geometries:
        """What lies in the square about `center` [2], in its frame: the origin at its centre, x along `yaw`."""
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * HALF_EXTENT
        square = shapely.Polygon(corners @ turn.T + center)
        geometries, tree = self.layers[layer]
        near = geometries[np.sort(tree.query(square))]
        cut = shapely.intersection(near, square)
        local: Geometries = shapely.transform(cut[~shapely.is_empty(cut)], lambda points: (points - center) @ turn)
        return local


def polylines(road: RoadMap, center: Float64Array, yaw: float) -> list[Polyline]:
    """The lines about the ego, which is at `center` [2] and heads along `yaw`, in its frame: x ahead, y left.

    Sampled every metre from their beginning, without what is left over at the end.
    """
    lines = [(DIVIDER, road.around(layer, center, yaw)) for layer in DIVIDER_LAYERS]
    lines.append((CROSSING, road.around(CROSSING_LAYER, center, yaw)))
    lines.append((CONTOUR, _boundaries([road.around(layer, center, yaw) for layer in ROAD_LAYERS])))
    return [Polyline(_sampled(line), kind) for kind, group in lines for line in line_parts(group)]


def line_parts(geometries: Geometries) -> Iterator[shapely.LineString]:
    """The lines in geometries; the points at which one only touches something are dropped."""
    parts = shapely.get_parts(shapely.get_parts(geometries))
    yield from parts[shapely.get_dimensions(parts) == 1]


def polygon_parts(geometries: Geometries) -> Geometries:
    """The polygons in geometries; the lines along which one only touches something are dropped."""
    parts = shapely.get_parts(shapely.get_parts(geometries))
    polygons: Geometries = parts[shapely.get_dimensions(parts) == 2]
    return polygons


def _long_edges(crossings: Geometries) -> Geometries:
    """Two lines of each polygon: its longest edges, the longest last."""
    edges = []
    for outline in map(shapely.get_coordinates, shapely.get_exterior_ring(crossings)):
        lengths = np.square(np.diff(outline, axis=0)).sum(-1)
        edges += [shapely.LineString(outline[i : i + 2]) for i in np.argsort(lengths)[-2:]]
    return np.array(edges, np.object_)


def _boundaries(layers: Sequence[Geometries]) -> Geometries:
    """Outer outlines, clockwise, then inner ones, counter-clockwise, of the union of roads and lanes."""
    union = shapely.union_all([shapely.union_all(polygon_parts(layer)) for layer in layers])
    roads = polygon_parts(np.array([union], np.object_))
    outer = [ring.reverse() if ring.is_ccw else ring for ring in shapely.get_exterior_ring(roads)]
    inner = [ring if ring.is_ccw else ring.reverse() for road in roads for ring in road.interiors]
    edge = HALF_EXTENT - BOUNDARY_MARGIN
    cut = [ring.intersection(shapely.box(-edge, -edge, edge, edge)) for ring in (*outer, *inner)]
    return np.array([shapely.line_merge(lines) for lines in cut], np.object_)


def _sampled(line: shapely.LineString) -> Float64Array:
    points: Float64Array = shapely.get_coordinates(line.interpolate(np.arange(0, line.length, SAMPLE_METRES)))
    return points
