"""A town's drivable areas and sidewalks as a picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.synthetic.world.elements import STOP_LINE
from toolkit.synthetic.world.geometry import Array
from toolkit.synthetic.world.surfaces import bays, corners, sidewalks
from toolkit.synthetic.world.town import Town

_PICTURE_METRES = 0.1
"""Size of the picture's pixels; nuscenes-devkit assumes it."""


def map_picture(town: Town) -> NDArray[np.uint8]:
    """[n, n] uint8: 255 where one drives or walks, 0 elsewhere; the top row is the north, 0.1 m a pixel."""
    pixels = round(town.canvas / _PICTURE_METRES)
    picture = np.zeros((pixels, pixels), np.uint8)
    areas = [*_drivable(town), *_walkable(town)]
    for area in areas:
        points = town.to_global(area) / _PICTURE_METRES
        points = np.stack([points[:, 0], pixels - points[:, 1]], axis=-1)
        cv2.fillPoly(picture, [points.round().astype(np.int32)], (255,))
    return picture


def _drivable(town: Town) -> list[Array]:
    segments = town.roads.segments
    streets = [segment.area(-segment.street.half_width, segment.street.half_width) for segment in segments]
    junctions = [junction.area(STOP_LINE) for junction in town.roads.junctions.values()]
    return [*streets, *junctions, *(bay for segment in segments for bay in bays(segment))]


def _walkable(town: Town) -> list[Array]:
    strips = [area for segment in town.roads.segments for area in sidewalks(segment)]
    return [*strips, *(c.outline for junction in town.roads.junctions.values() for c in corners(junction))]
