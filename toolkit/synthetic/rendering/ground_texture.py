"""The ground's colours, as square patches of texture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.synthetic.rendering.light import SUN_SHADOW, cast_shadow
from toolkit.synthetic.world.elements import STOP_LINE
from toolkit.synthetic.world.geometry import Array, oriented_corners
from toolkit.synthetic.world.surfaces import bays, corners, divider_paint, sidewalks, white_paint
from toolkit.synthetic.world.town import Town

Image = NDArray[np.uint8]

_PATCH = 2048
"""Side of a patch in texels."""
_SUBPIXEL = 5
"""Bits of the fraction in drawing coordinates."""
GRASS, _SIDEWALK, _KERB, _ASPHALT, _BAY, _REPAIR, _WHITE, _YELLOW = (
    (72, 118, 92), (150, 156, 160), (178, 182, 184), (92, 90, 88), (104, 101, 98), (78, 76, 74), (222, 226, 228),
    (84, 186, 222),
)  # fmt: skip
"""Colours in OpenCV's order: blue, green, red."""
_SHADE = 0.58
_UNITY = 128
"""The noise that leaves a colour as it is."""


class GroundTexture:
    """Patches of a town's ground, made when they are needed; the last ones are kept."""

    def __init__(self, town: Town) -> None:
        self._layers = [(color, _polygons(outlines)) for color, outlines in _layers(town)]
        self._shadows = _polygons(_static_shadows(town))
        self._noise = _noise(town.seed)
        self.patch = lru_cache(maxsize=6)(self._paint)

    def around(self, place: Array, texel: float) -> tuple[Image, tuple[float, float]]:
        """The patch [2048, 2048, 3] in whose middle a place lies roughly, and the place of its first texel's corner.

        Rows follow y, columns follow x.
        """
        step = _PATCH // 8
        column, row = (math.floor(float(v) / (texel * step) + 0.5) * step - _PATCH // 2 for v in place)
        return self.patch(column, row, texel), (column * texel, row * texel)

    def _paint(self, column: int, row: int, texel: float) -> Image:
        patch = np.empty((_PATCH, _PATCH, 3), np.uint8)
        cv2.rectangle(patch, (0, 0), (_PATCH, _PATCH), GRASS, cv2.FILLED)
        origin = np.array([column, row])
        for color, polygons in self._layers:
            cv2.fillPoly(patch, polygons.on_patch(origin, texel), color, cv2.LINE_AA, _SUBPIXEL)
        shade = np.zeros((_PATCH, _PATCH), np.uint8)
        for shadow in self._shadows.on_patch(origin, texel):
            cv2.fillConvexPoly(shade, shadow, (255,), cv2.LINE_AA, _SUBPIXEL)
        size = len(self._noise)
        noise = np.tile(np.roll(self._noise, (-row % size, -column % size), axis=(0, 1)), (_PATCH // size,) * 2)
        soft = cv2.GaussianBlur(shade, (0, 0), max(0.5, 0.12 / texel))
        factor = cv2.subtract(noise, cv2.multiply(noise, soft, scale=(1 - _SHADE) / 255))
        return np.asarray(cv2.multiply(patch, cv2.merge([factor] * 3), scale=1 / _UNITY), np.uint8)


def _layers(town: Town) -> list[tuple[tuple[int, int, int], list[Array]]]:
    """What is painted one over the other: colour, polygons."""
    roads = town.roads
    segments, junctions = roads.segments, list(roads.junctions.values())
    streets = [s.area(-s.street.half_width, s.street.half_width) for s in segments]
    crossed = [junction.area(STOP_LINE) for junction in junctions]
    parking = [bay for segment in segments for bay in bays(segment)]
    walks = [area for segment in segments for area in sidewalks(segment)]
    walks += [corner.outline for junction in junctions for corner in corners(junction)]
    kerbs = [_grown(area, 0.16) for area in (*streets, *parking)]
    kerbs += [junction.area(STOP_LINE) + _outwards(junction.area(STOP_LINE)) for junction in junctions]
    rng = np.random.Generator(np.random.PCG64(town.seed))
    repairs = [_repair(rng, area) for area in streets for _ in range(5)]
    divider = _YELLOW if roads.side == 1 else _WHITE
    return [
        (_SIDEWALK, walks), (_KERB, kerbs), (_ASPHALT, [*streets, *crossed]), (_BAY, parking), (_REPAIR, repairs),
        (_WHITE, list(white_paint(roads))), (divider, list(divider_paint(roads))),
    ]  # fmt: skip


def _grown(area: Array, by: float) -> Array:
    """A rectangle, larger on every side."""
    low, high = area.min(axis=0) - by, area.max(axis=0) + by
    return np.array([low, (high[0], low[1]), high, (low[0], high[1])])


def _outwards(area: Array) -> Array:
    """[n, 2]: a step away from the middle for every corner of a junction's area."""
    step: Array = 0.16 * np.sign(area - area.mean(axis=0))
    return step


def _repair(rng: np.random.Generator, area: Array) -> Array:
    """A patch of newer asphalt somewhere in an area."""
    low, high = area.min(axis=0), area.max(axis=0)
    along = np.argmax(high - low)
    size = np.where(np.arange(2) == along, rng.uniform(1.5, 7.0), rng.uniform(0.6, 1.8))
    corner = low + rng.uniform(size=2) * (high - low - size)
    return _grown(np.array([corner, corner + size]), 0.0)


def _static_shadows(town: Town) -> list[Array]:
    """Convex shadows of buildings and trees."""
    buildings = town.scenery.buildings
    poses = np.array([b.pose for b in buildings])
    feet = oriented_corners(poses, np.array([b.size[:2] for b in buildings]))
    shadows = [cast_shadow(foot, building.size[2]) for foot, building in zip(feet, buildings, strict=True)]
    circle = np.array([(math.cos(a), math.sin(a)) for a in np.linspace(0, 2 * math.pi, 14, endpoint=False)])
    for tree in town.scenery.trees:
        crown = np.array([tree.x, tree.y]) + 0.27 * tree.height * circle
        shadows.append(crown + 0.65 * tree.height * SUN_SHADOW)
    return shadows


@dataclass(frozen=True, eq=False)
class _Polygons:
    """Polygons, and their corners with the smallest and largest coordinates [n, 2]."""

    outlines: list[Array]
    low: Array
    high: Array

    def on_patch(self, origin: Array, texel: float) -> list[NDArray[np.int32]]:
        """Those that touch a patch, in its drawing coordinates."""
        begin, end = (origin + 0.5) * texel, (origin + _PATCH + 0.5) * texel
        touching = np.flatnonzero(((self.high > begin) & (self.low < end)).all(axis=1)).tolist()
        return [((self.outlines[i] / texel - origin - 0.5) * 2**_SUBPIXEL).round().astype(np.int32) for i in touching]


def _polygons(outlines: list[Array]) -> _Polygons:
    low, high = (np.array([getattr(outline, end)(axis=0) for outline in outlines]) for end in ("min", "max"))
    return _Polygons(outlines, low, high)


def _noise(seed: int) -> Image:
    """[512, 512]: factors around 1, in units of 1/128, that repeat without a seam."""
    rng = np.random.Generator(np.random.PCG64(seed))
    total = np.zeros((512, 512), np.float32)
    for sigma, strength in ((0.0, 0.03), (1.5, 0.03), (12.0, 0.025)):
        layer = rng.uniform(-1, 1, (512, 512)).astype(np.float32)
        if sigma:
            padded = cv2.copyMakeBorder(layer, 64, 64, 64, 64, cv2.BORDER_WRAP)
            layer = np.asarray(cv2.GaussianBlur(padded, (0, 0), sigma), np.float32)[64:-64, 64:-64]
        total += strength * layer / layer.std()
    factors: Image = ((1 + total) * _UNITY).clip(0, 255).astype(np.uint8)
    return factors
