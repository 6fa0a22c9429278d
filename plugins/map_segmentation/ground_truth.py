"""The true map as masks: what a segmented map is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from plugins.map_segmentation.metrics import KINDS
from plugins.map_segmentation.vector_map import (
    DRIVABLE_LAYER,
    HALF_EXTENT,
    LAYERS,
    Polyline,
    RoadMap,
    line_parts,
    polygon_parts,
    polylines,
)  # fmt: skip
from toolkit.config.model import ModelConfig
from toolkit.data.frames import Float64Array
from toolkit.data.ground_truth import AnnotatedScene, Gap, GroundTruth
from toolkit.training.spec import FrameTruth

DRIVABLE = len(KINDS)
"""The label of the drivable area, after those of the kinds of lines."""
BESIDE_LINES = 4
"""Pixels by which a line is wider where it erases those of earlier kinds."""
LARGEST_NUMBER = 255
"""Lines are numbered in bytes; all that come later share this number."""


@dataclass(frozen=True, eq=False)
class TrueMap:
    """K masks; rows follow y (forward), columns x (right). Those of lines come first, by kind."""

    labels: NDArray[np.int64]
    """[K]: which of `KINDS`, or `DRIVABLE`."""
    boxes: NDArray[np.int64]
    """[K, 4]: x0, y0, x1, y1 in cells, the last ones included; 0 for an empty mask."""
    masks: NDArray[np.uint8]
    """[K, n, n]: 1 where it is."""


def road_map(truth: GroundTruth, location: str | None) -> RoadMap | None:
    """The map of a place, to be kept for all its scenes; None if there is none."""
    layers = None if location is None else truth.map_layers(location, LAYERS)
    return None if layers is None else RoadMap.of(layers)


def true_map(
    scene: AnnotatedScene, index: int, road: RoadMap | None, *, size: int = 50, thickness: int = 1
) -> TrueMap | Gap:
    """Lines and, last, the drivable area around a key frame, on a grid of `size` cells a side that covers ±51.2 m.

    As in the reference, lines lie about the ego, and the drivable area about the LiDAR, about a metre ahead of it.
    """
    frame = scene.frames[index]
    if road is None:
        return Gap(frame.token, f"the map of {scene.location}" if scene.location else "the name of its map")
    ego = frame.ego2global
    lines = rasterize(polylines(road, ego.translation[:2], ego.yaw), size, thickness)
    to_global = ego.rotation @ frame.lidar2ego.rotation
    lidar = ego.rotation @ frame.lidar2ego.translation + ego.translation
    # The LiDAR's heading by its y axis, which differs from that by its x axis where it tilts.
    yaw = float(np.arctan2(-to_global[0, 1], to_global[0, 0]))
    area = drivable_area(road.around(DRIVABLE_LAYER, lidar[:2], yaw), size)
    return _with_boxes(np.append(lines.labels, DRIVABLE), np.concatenate((lines.masks, area[None])))


def map_truth(truth: GroundTruth, config: ModelConfig) -> FrameTruth:
    """What the map is trained on in a clip's last frame: labels, boxes and masks of the elements of the true map."""
    roads: dict[str | None, RoadMap | None] = {}

    def of_frame(scene: AnnotatedScene, index: int, *, last: bool) -> Mapping[str, NDArray[Any]] | Gap:
        if not last:
            return {}
        if scene.location not in roads:
            roads[scene.location] = road_map(truth, scene.location)
        found = true_map(scene, index, roads[scene.location], size=config.bev.height)
        if isinstance(found, Gap):
            return found
        return {"gt_lane_labels": found.labels, "gt_lane_bboxes": found.boxes, "gt_lane_masks": found.masks}

    return of_frame


def rasterize(lines: Sequence[Polyline], size: int, thickness: int) -> TrueMap:
    """Masks of lines in the ego frame, one for each part of a line that lies in the square.

    Lines of fewer than two points are left out. A kind is erased where a later one runs nearby.
    """
    drawn, nearby = np.zeros((2, len(KINDS), size, size), np.uint8)
    square = shapely.box(-HALF_EXTENT, -HALF_EXTENT, HALF_EXTENT, HALF_EXTENT)
    number = 0
    for kind in range(len(KINDS)):
        kept = [shapely.LineString(line.points) for line in lines if line.kind == kind and len(line.points) >= 2]
        for part in line_parts(shapely.intersection(np.array(kept, np.object_), square)):
            number += 1
            cells = _cells(shapely.get_coordinates(part), size).astype(np.int32)
            cv2.polylines(drawn[kind], [cells], False, (min(number, LARGEST_NUMBER),), thickness)
            cv2.polylines(nearby[kind], [cells], False, (1,), thickness + BESIDE_LINES)
    for kind in reversed(range(len(KINDS))):
        drawn[:kind, nearby[kind] != 0] = 0
    drawn = np.rot90(drawn, k=-1, axes=(1, 2))  # from rows that go left and columns that go ahead
    found = [(kind, drawn[kind] == number) for kind in range(len(KINDS)) for number in np.unique(drawn[kind]) if number]
    masks = np.array([mask for _, mask in found], np.uint8).reshape(-1, size, size)
    return _with_boxes(np.array([kind for kind, _ in found], np.int64), masks)


def drivable_area(areas: NDArray[np.object_], size: int) -> NDArray[np.uint8]:
    """The mask [n, n] of areas in the LiDAR frame: one after the other, each with its holes cut out."""
    mask = np.zeros((size, size), np.uint8)
    for area in areas:
        polygons = polygon_parts(np.array([area], np.object_))
        outer = [_outline(ring, size) for ring in shapely.get_exterior_ring(polygons)]
        inner = [_outline(ring, size) for polygon in polygons for ring in polygon.interiors]
        cv2.fillPoly(mask, outer, (1,))
        cv2.fillPoly(mask, inner, (0,))
    return mask


def _outline(ring: shapely.LinearRing, size: int) -> NDArray[np.int32]:
    return _cells(shapely.get_coordinates(ring), size).round().astype(np.int32)


def _cells(points: Float64Array, size: int) -> Float64Array:
    """Metres as cells from the corner of the square on, with fractions."""
    return (points + HALF_EXTENT) * (size / (2 * HALF_EXTENT))


def _with_boxes(labels: NDArray[np.int64], masks: NDArray[np.uint8]) -> TrueMap:
    boxes = np.zeros((len(masks), 4), np.int64)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            box[:] = columns.min(), rows.min(), columns.max(), rows.max()
    return TrueMap(labels, boxes, masks)
