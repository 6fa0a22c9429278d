"""Which boxes nuScenes judges: those near enough for their class, and not parked in a rack.

The rules of its configurations `detection_cvpr_2019` and `tracking_nips_2019`, whose ranges are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from toolkit.data.frames import Float64Array
from toolkit.data.ground_truth import AnnotatedFrame, Objects

RANGES: Mapping[str, float] = {
    **dict.fromkeys(("car", "truck", "construction_vehicle", "bus", "trailer"), 50.0),
    **dict.fromkeys(("pedestrian", "motorcycle", "bicycle"), 40.0),
    **dict.fromkeys(("barrier", "traffic_cone"), 30.0),
}
"""Metres from the ego within which a class is judged."""
TRACKED = ("car", "truck", "bus", "trailer", "pedestrian", "motorcycle", "bicycle")
"""Classes of the tracking benchmark: forecasts of others are not submitted, and so not judged."""
RACK = "static_object.bicycle_rack"
RACKED = ("bicycle", "motorcycle")


def within_reach(labels: Sequence[str], in_ego: Float64Array) -> NDArray[np.bool_]:
    """Which of K boxes a submission holds: classes [K], centres [K, 3] in the ego frame; none of an unknown class."""
    reach = np.array([RANGES.get(label, -np.inf) for label in labels])
    within: NDArray[np.bool_] = np.hypot(in_ego[:, 0], in_ego[:, 1]) <= reach
    return within


def counts(
    frame: AnnotatedFrame, objects: Objects, labels: Sequence[str] | NDArray[np.str_], places: Float64Array
) -> NDArray[np.bool_]:
    """Which of K boxes count, true or forecast: classes [K] as they are judged, centres [K, 3] in the global frame.

    Nearer to the ego than the range of their class, seen from above; bicycles and motorcycles outside of racks.
    """
    away = np.linalg.norm(places[:, :2] - frame.ego2global.translation[:2], axis=-1)
    near = away < np.array([RANGES[label] for label in labels])
    counted: NDArray[np.bool_] = near & ~(np.isin(labels, RACKED) & _in_a_rack(objects, places))
    return counted


def _in_a_rack(objects: Objects, places: Float64Array) -> NDArray[np.bool_]:
    """[K]: whether points [K, 3] lie in the box of a rack; racks stand upright."""
    racks = np.flatnonzero(np.array(objects.label, np.str_) == RACK)
    ahead = objects.ahead[racks]
    up = np.array([0.0, 0.0, 1.0])
    axes = np.stack((np.cross(up, ahead), ahead, np.broadcast_to(up, ahead.shape)), 1)
    offsets = np.einsum("rij,krj->kri", axes, places[:, None] - objects.position[racks])
    inside: NDArray[np.bool_] = (np.abs(offsets) <= objects.size[racks] / 2).all(-1).any(-1)
    return inside
