"""Where a box heads, by the convention that the model was trained with."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import YawConvention

Angle = TypeVar("Angle", float, NDArray[np.float64])


def heading_of(yaw: Angle, convention: YawConvention) -> Angle:
    """Counter-clockwise from the LiDAR frame's x axis, radians in (-π, π], of a box, or boxes, of this decoded yaw."""
    heading = yaw if convention is YawConvention.HEADING else -yaw - math.pi / 2
    return math.pi - (math.pi - heading) % (2 * math.pi)
