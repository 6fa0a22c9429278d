"""The vehicle itself and its way, as pictures show them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.data.frames import Float64Array

EGO_SIZE = (1.73, 4.08)
"""Width and length (m) of the ego box, about the LiDAR, that the reference was trained with."""
SLOW = 0.5
"""Below this speed (m/s) no velocity arrow is drawn."""
_SAMPLES = 12
"""Of a smooth path, for each planned step."""


def smooth_path(points: NDArray[np.floating]) -> Float64Array:
    """[n, 2]: from the origin through all of `points` [steps, 2], as a Catmull-Rom spline."""
    knots = np.concatenate([np.zeros((1, 2)), points.astype(np.float64)])
    slopes = np.gradient(knots, axis=0)
    t = np.linspace(0, 1, _SAMPLES, endpoint=False)[None, :, None]
    start, end, rise, fall = (part[:, None] for part in (knots[:-1], knots[1:], slopes[:-1], slopes[1:]))
    path = (
        (2 * t**3 - 3 * t**2 + 1) * start
        + (t**3 - 2 * t**2 + t) * rise
        + (3 * t**2 - 2 * t**3) * end
        + (t**3 - t**2) * fall
    )
    return np.concatenate([path.reshape(-1, 2), knots[-1:]])
