"""Random changes to the colours of a camera picture, as the reference's training makes them.

They are those of SSD (Liu et al. 2016, section 3.6), with the strengths that mmdetection gives them.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BRIGHTNESS = 32.0
CONTRAST = SATURATION = (0.5, 1.5)
HUE_DEGREES = 18.0
Picture = NDArray[np.float32]


def distort(picture: NDArray[np.uint8], random: np.random.Generator) -> Picture:
    """Change brightness, contrast, saturation and hue, and exchange colours, each with probability 1/2.

    RGB [height, width, 3] -> the same as float32, which may leave 0 to 255. Contrast is changed before the hue or after
    it, as chance has it.
    """
    image: Picture = picture.astype(np.float32)
    if random.integers(2):
        image += np.float32(random.uniform(-BRIGHTNESS, BRIGHTNESS))
    contrast_first = bool(random.integers(2))
    if contrast_first:
        image = _contrast(image, random)
    image = _hue_and_saturation(image, random)
    if not contrast_first:
        image = _contrast(image, random)
    if random.integers(2):
        image = np.ascontiguousarray(image[..., random.permutation(3)])
    return image


def _contrast(image: Picture, random: np.random.Generator) -> Picture:
    return image * np.float32(random.uniform(*CONTRAST)) if random.integers(2) else image


def _hue_and_saturation(image: Picture, random: np.random.Generator) -> Picture:
    hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), np.float32)
    if random.integers(2):
        hsv[..., 1] *= np.float32(random.uniform(*SATURATION))
    if random.integers(2):
        hsv[..., 0] = (hsv[..., 0] + np.float32(random.uniform(-HUE_DEGREES, HUE_DEGREES))) % 360
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.float32)
