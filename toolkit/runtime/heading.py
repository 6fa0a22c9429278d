"""Where a box heads, by the convention that the model was trained with."""

from __future__ import annotations

import math

from toolkit.config.model import YawConvention


def heading_of(yaw: float, convention: YawConvention) -> float:
    """Counter-clockwise from the LiDAR frame's x axis, radians in (-π, π], of a box whose decoded yaw this is."""
    heading = yaw if convention is YawConvention.HEADING else -yaw - math.pi / 2
    return math.pi - (math.pi - heading) % (2 * math.pi)
