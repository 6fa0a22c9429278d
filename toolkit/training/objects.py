"""The objects of a key frame that networks are trained on, and their boxes as networks learn them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ModelConfig, YawConvention
from toolkit.data.ground_truth import Objects


def trained_objects(objects: Objects, config: ModelConfig) -> NDArray[np.int64]:
    """Rows, in their order: of one of the classes, hit by a sensor, and with the centre inside the BEV's range.

    The reference filters so, by `valid_flag`, name and range, before it trains.
    """
    x, y = objects.center[:, 0], objects.center[:, 1]
    (left, right), (back, front) = config.bev.x_range, config.bev.y_range
    inside = (x > left) & (x < right) & (y > back) & (y < front)
    return np.flatnonzero(np.isin(objects.label, config.class_names) & objects.hit & inside)


def trained_boxes(objects: Objects, rows: NDArray[np.int64], config: ModelConfig) -> NDArray[np.float32]:
    """[N, 9]: x, y, bottom z, w, l, h (m), yaw (rad) in the config's convention, vx, vy (m/s, 0 where unknown)."""
    size, center = objects.size[rows], objects.center[rows]
    bottom = center - np.stack((0 * size[:, 2], 0 * size[:, 2], size[:, 2] / 2), -1)
    yaw = yaw_of(objects.heading[rows], config)
    velocity = np.nan_to_num(objects.velocity[rows])
    return np.concatenate((bottom, size, yaw[:, None], velocity), 1).astype(np.float32)


def yaw_of(heading: NDArray[np.float64], config: ModelConfig) -> NDArray[np.float64]:
    """Headings (counter-clockwise from x, radians) as the config's convention writes them."""
    return heading if config.yaw_convention is YawConvention.HEADING else -heading - np.pi / 2
