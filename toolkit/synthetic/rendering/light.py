"""Sun and haze: the same for everything that is drawn. Colours are in OpenCV's order: blue, green, red."""

from __future__ import annotations

import math

import cv2
import numpy as np

from toolkit.synthetic.world.geometry import Array

HAZE = (226, 216, 204)
HAZE_METRES = 260.0
"""The distance at which the haze hides all but 1/e."""
_SUN_AZIMUTH, _SUN_ELEVATION = math.radians(215), math.radians(48)
SUN = np.array([
    math.cos(_SUN_ELEVATION) * math.cos(_SUN_AZIMUTH), math.cos(_SUN_ELEVATION) * math.sin(_SUN_AZIMUTH),
    math.sin(_SUN_ELEVATION),
])  # fmt: skip
"""Unit vector towards the sun, in the town frame."""
SUN_SHADOW = -SUN[:2] / SUN[2]
"""Where the shadow of a point one metre high falls, metres."""


def cast_shadow(foot: Array, height: float) -> Array:
    """[n, 2]: the convex shadow on the ground of what stands on `foot` [m, 2]."""
    points = np.concatenate([foot, foot + height * SUN_SHADOW])
    hull: Array = cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)
    return hull
