"""The ground as a camera sees it: the texture in inverse perspective, finer near the camera than far away."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from toolkit.synthetic.rendering.ground_texture import GRASS, GroundTexture, Image
from toolkit.synthetic.rendering.light import HAZE, HAZE_METRES
from toolkit.synthetic.world.geometry import Array


@dataclass(frozen=True)
class Level:
    """A resolution of the ground: metres a texel, the distance up to which it is used, and the supersampling there."""

    texel: float
    reach: float
    rows: int


LEVELS = (Level(0.03, 9.0, 1), Level(0.03, 22.0, 2), Level(0.1, 70.0, 3), Level(0.4, 320.0, 3))
"""From near to far."""


def draw_ground(texture: GroundTexture, image: Image, intrinsics: Array, axes: Array, place: Array) -> None:
    """Paint what lies below the horizon; `axes` [3, 3] and `place` [3] are the level camera's pose in the town."""
    rays = axes @ np.linalg.inv(intrinsics)
    to_ground = np.stack([place[0] * rays[2] - place[2] * rays[0], place[1] * rays[2] - place[2] * rays[1], rays[2]])
    horizon, drop = float(intrinsics[1, 2]), float(intrinsics[1, 1] * place[2])
    height, width = image.shape[:2]
    low = height
    for level in LEVELS:
        high = max(0, math.ceil(horizon + drop / level.reach))
        if high < low:
            patch, origin = texture.around(place[:2], level.texel)
            to_texel = np.array([[1 / level.texel, 0, -origin[0] / level.texel - 0.5],
                                 [0, 1 / level.texel, -origin[1] / level.texel - 0.5], [0, 0, 1]])  # fmt: skip
            to_pixel = np.array([[1, 0, 0], [0, 1 / level.rows, high - 0.5 + 0.5 / level.rows], [0, 0, 1]])
            band = cv2.warpPerspective(
                patch, to_texel @ to_ground @ to_pixel, (width, (low - high) * level.rows),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT, borderValue=GRASS,
            )  # fmt: skip
            if level.rows > 1:
                band = cv2.resize(band, (width, low - high), interpolation=cv2.INTER_AREA)
            if level.texel > LEVELS[0].texel:
                distance = drop / (np.arange(high, low) + 0.5 - horizon)
                clear = np.exp(-distance / HAZE_METRES).astype(np.float32)[:, None, None]
                band = (band * clear + np.array(HAZE, np.float32) * (1 - clear)).astype(np.uint8)
            image[high:low] = band
            low = high
    image[math.floor(horizon) : low] = HAZE
