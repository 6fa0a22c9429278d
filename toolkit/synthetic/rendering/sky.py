"""The sky with clouds and a far skyline, as a panorama that every camera sees a part of."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.synthetic.rendering.light import HAZE
from toolkit.synthetic.world.geometry import Array

_COLUMNS, _ROWS = 8192, 640
_TOP, _BOTTOM = 0.66, -0.04
"""Slopes of the panorama's upper and lower edge."""
_ZENITH, _CLOUD = (214, 160, 104), (248, 246, 244)
_COARSE = 4
"""Clouds are made this much smaller than the panorama."""
_REDUCED = 2
"""The sky is drawn this much smaller than the picture."""

Lookup = NDArray[Any]
"""One of the two arrays of cv2.remap in fixed-point numbers."""


class Sky:
    """Draws the sky above the horizon of level cameras."""

    def __init__(self, seed: int) -> None:
        panorama = _panorama(seed)
        self._panorama = np.concatenate([panorama, panorama[:, : _COLUMNS // 2]], axis=1)
        self._maps: dict[str, tuple[Lookup, Lookup]] = {}

    def draw(self, image: NDArray[np.uint8], channel: str, intrinsics: Array, yaw: float) -> None:
        """Paint the rows above the horizon; `yaw` is the camera's direction of view."""
        rows, width = math.ceil(intrinsics[1, 2]) + 1, image.shape[1]
        if channel not in self._maps:
            self._maps[channel] = _lookup(intrinsics, rows, width)
        left = (round(-yaw / (2 * math.pi) * _COLUMNS) - _COLUMNS // 4) % _COLUMNS
        view = self._panorama[:, left : left + _COLUMNS // 2]
        sky = cv2.remap(view, *self._maps[channel], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        image[:rows] = cv2.resize(sky, (width, rows), interpolation=cv2.INTER_LINEAR)


def _lookup(intrinsics: Array, rows: int, width: int) -> tuple[Lookup, Lookup]:
    """Where the pixels of a reduced picture lie in the half of the panorama around the direction of view."""
    u = (np.arange(width // _REDUCED) + 0.5) * _REDUCED - 0.5
    v = (np.arange(math.ceil(rows / _REDUCED)) + 0.5) * _REDUCED - 0.5
    x = (u - intrinsics[0, 2]) / intrinsics[0, 0]
    slope = (intrinsics[1, 2] - v[:, None]) / intrinsics[1, 1] / np.sqrt(1 + x * x)
    column = np.broadcast_to(np.arctan(x) / (2 * math.pi) * _COLUMNS + _COLUMNS / 4, slope.shape)
    row = (_TOP - slope) / (_TOP - _BOTTOM) * _ROWS - 0.5
    return cv2.convertMaps(column.astype(np.float32), row.astype(np.float32), cv2.CV_16SC2)


def _panorama(seed: int) -> NDArray[np.uint8]:
    """[rows, columns, 3]: azimuth decreases (clockwise) along the columns."""
    rng = np.random.Generator(np.random.PCG64(seed))
    slope = np.linspace(_TOP, _BOTTOM, _ROWS // _COARSE, dtype=np.float32)[:, None, None]
    share = np.clip(slope / _TOP, 0, 1) ** np.float32(0.7)
    clear = np.array(HAZE, np.float32) * (1 - share) + np.array(_ZENITH, np.float32) * share
    clouds = 0.8 * np.clip(_clouds(rng) * 1.8 - 0.15, 0, 1)[..., None] * np.clip(slope * 7, 0, 1)
    coarse = (clear * (1 - clouds) + np.array(_CLOUD, np.float32) * clouds).astype(np.uint8)
    sky = np.asarray(cv2.resize(coarse, (_COLUMNS, _ROWS), interpolation=cv2.INTER_LINEAR), np.uint8)
    for base, roughness, color in ((0.045, 0.02, (196, 186, 172)), (0.022, 0.012, (150, 152, 140))):
        _skyline(rng, sky, base, roughness, color)
    return sky


def _clouds(rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise of several octaves that closes around the circle."""
    size = _COLUMNS // _COARSE, _ROWS // _COARSE
    total = np.zeros(size[::-1], np.float32)
    for octave in range(5):
        noise = rng.uniform(-1, 1, (5 * 2**octave, 14 * 2**octave)).astype(np.float32)
        noise = np.concatenate([noise, noise[:, :1]], axis=1)
        total += cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC) / np.float32(1.9**octave)
    return total


def _skyline(
    rng: np.random.Generator, sky: NDArray[np.uint8], base: float, roughness: float, color: tuple[int, int, int]
) -> None:
    """Far houses of different widths and heights."""
    column = 0
    while column < _COLUMNS:
        width = int(rng.integers(20, 110))
        top = base + float(rng.uniform(-roughness, roughness)) + (0.03 if rng.uniform() < 0.08 else 0.0)
        row = round((_TOP - top) / (_TOP - _BOTTOM) * _ROWS)
        sky[row:, column : column + width] = (np.array(color) * float(rng.uniform(0.96, 1.04))).astype(np.uint8)
        column += width
