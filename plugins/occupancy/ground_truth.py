"""Which cells vehicles really occupy, now and in the next three seconds: what forecasts of occupancy are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ModelConfig
from toolkit.data.frames import Float64Array
from toolkit.data.ground_truth import AnnotatedFrame, AnnotatedScene, Gap, GroundTruth, Objects
from toolkit.data.standpoint import seen_from, turned
from toolkit.training.spec import FrameTruth

VEHICLES = ("car", "bus", "construction_vehicle", "bicycle", "motorcycle", "truck", "trailer")
"""Pedestrians never count."""
PAST, FUTURE = 2, 6
"""Key frames before and after the present that are looked at."""
JUDGED_FUTURE = 4
"""Key frames ahead without which a sample is not judged, nor without those before."""
UNKNOWN = 255
INSTEAD_OF_UNKNOWN = -20
"""The instance whose number would read as unknown."""


@dataclass(frozen=True, eq=False)
class InstanceGrids:
    """Vehicles on a grid about the LiDAR, now and at the next six key frames; rows follow y, columns x."""

    instances: NDArray[np.int32]
    """[7, n, n]: 0 where none is, else one more than its number in the data set; 255 all over where the scene ended."""
    known: NDArray[np.bool_]
    """[9]: which key frames exist: two before, the present, six after."""
    gap: Gap | None
    """Set if a key frame is missing without which occupancy is not judged."""

    @property
    def segmentation(self) -> NDArray[np.uint8]:
        """[7, n, n]: 1 where a vehicle is, 255 where nothing is known."""
        known = self.known[PAST:, None, None]
        return np.where(known, self.instances != 0, UNKNOWN).astype(np.uint8)


def instance_grids(
    scene: AnnotatedScene, index: int, *, size: int = 50, cell_metres: float = 0.5
) -> InstanceGrids | Gap:
    """The grids, `size` cells a side, about key frame `index` of a scene.

    Every annotated vehicle counts, whether a sensor has hit it or not; of two that overlap the later one is seen.
    """
    now = scene.frames[index]
    if now.objects is None:
        return Gap(now.token, "annotations")
    known = np.array([0 <= index + step < len(scene.frames) for step in range(-PAST, FUTURE + 1)])
    instances = np.full((FUTURE + 1, size, size), UNKNOWN, np.int32)
    for grid, then in zip(instances, scene.frames[index : index + FUTURE + 1], strict=False):
        grid[:] = 0
        if then.objects is not None:
            _draw(grid, now, then, then.objects, cell_metres)
    judged = known[: PAST + 1 + JUDGED_FUTURE].all()
    gap = None if judged else Gap(now.token, "some of two key frames before and four after")
    return InstanceGrids(instances, known, gap)


def occupancy_truth(truth: GroundTruth, config: ModelConfig) -> FrameTruth:
    """What the forecast is trained on in a clip's last frame; see `frame_truth`."""
    return lambda scene, index, *, last: frame_truth(scene, index, config) if last else {}


def frame_truth(scene: AnnotatedScene, index: int, config: ModelConfig) -> Mapping[str, NDArray[Any]] | Gap:
    """Which vehicle is in which cell, by one more than its number, and which key frames exist."""
    grids = instance_grids(scene, index, size=config.bev.height, cell_metres=config.occupancy.cell_metres)
    if isinstance(grids, Gap):
        return grids
    return {
        "gt_segmentation": grids.segmentation[None].astype(np.int64),
        "gt_instance": grids.instances[None].astype(np.int64),
        "gt_occ_img_is_valid": grids.known[None],
    }


def _draw(
    grid: NDArray[np.int32], now: AnnotatedFrame, then: AnnotatedFrame, objects: Objects, cell_metres: float
) -> None:
    vehicles = np.flatnonzero(np.isin(objects.label, VEHICLES))
    width, length, height = objects.size[vehicles].T
    bottom = objects.center[vehicles] - np.stack((0 * height, 0 * height, height / 2), -1)
    centers = seen_from(now, then, bottom)[:, :2]
    corners = _corners(centers, objects.heading[vehicles] + turned(now, then), width, length)
    # Each corner counts as the cell that begins nearest to it, and what the outline touches is occupied.
    half = len(grid) * cell_metres / 2
    cells = np.round((corners + half) / cell_metres).astype(np.int32)
    for outline, number in zip(cells, _drawn_numbers(objects.number[vehicles]), strict=True):
        cv2.fillPoly(grid, [outline], (number,))


def _corners(centers: Float64Array, headings: Float64Array, width: Float64Array, length: Float64Array) -> Float64Array:
    """[N, 4, 2], one after the other around each."""
    ahead = np.stack((np.cos(headings), np.sin(headings)), -1) * length[:, None] / 2
    left = np.stack((-np.sin(headings), np.cos(headings)), -1) * width[:, None] / 2
    return np.stack((ahead + left, ahead - left, -ahead - left, -ahead + left), 1) + centers[:, None]


def _drawn_numbers(numbers: NDArray[np.int64]) -> Sequence[int]:
    drawn = numbers + 1
    listed: list[int] = np.where(drawn == UNKNOWN, INSTEAD_OF_UNKNOWN, drawn).tolist()
    return listed
