"""Which objects and forecasts count: those near enough for their class, hit by a sensor, and not parked in a rack.

As nuScenes' detection evaluation filters (configuration `detection_cvpr_2019`), by classes as they are judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from plugins.motion.ground_truth import agent_paths
from plugins.motion.metrics import MOTION_CATEGORIES, Forecasts, TrueMotions
from toolkit.data.frames import Float64Array
from toolkit.data.ground_truth import AnnotatedFrame, AnnotatedScene, Gap, Objects
from toolkit.runtime.results import TrackedBox

RANGES: Mapping[str, float] = {
    **dict.fromkeys(("car", "truck", "construction_vehicle", "bus", "trailer"), 50.0),
    **dict.fromkeys(("pedestrian", "motorcycle", "bicycle"), 40.0),
    **dict.fromkeys(("barrier", "traffic_cone"), 30.0),
}
"""Metres from the ego within which a class is judged."""
DETECTION_CATEGORIES: Mapping[str, str] = {name: name for name in MOTION_CATEGORIES}
"""The finer of the two groupings in which UniAD reports: every class for itself."""
TRACKED = ("car", "truck", "bus", "trailer", "pedestrian", "motorcycle", "bicycle")
"""Classes of nuScenes' tracking benchmark: forecasts of others are not submitted, and so not judged."""
RACK = "static_object.bicycle_rack"
RACKED = ("bicycle", "motorcycle")


def true_motions(scene: AnnotatedScene, index: int, categories: Mapping[str, str]) -> TrueMotions | Gap:
    """What is to be forecast at key frame `index`, of the classes of `categories`, as what these make of them.

    Centres are in the global frame, paths in the LiDAR frame, and a sample is called by the frame's token.
    """
    frame, paths = scene.frames[index], agent_paths(scene, index)
    if frame.objects is None or isinstance(paths, Gap):
        return Gap(frame.token, "annotations")
    objects = frame.objects
    judged = np.flatnonzero(objects.hit & np.isin(objects.label, list(categories)))
    labels = np.array([categories[objects.label[i]] for i in judged], np.str_)
    near = counts(frame, objects, labels, objects.position[judged])
    rows = judged[near]
    return TrueMotions(
        sample=np.full(len(rows), frame.token),
        label=labels[near],
        centre=objects.position[rows, :2],
        path=paths.future[rows],
        steps=paths.future_mask[rows, :, 0].sum(-1).astype(np.int64),
    )


def judged_forecasts(
    boxes: Sequence[TrackedBox], frame: AnnotatedFrame, categories: Mapping[str, str]
) -> Forecasts | Gap:
    """What is forecast for a frame, as what `categories` make of its classes; boxes without a forecast are left out.

    As in the reference, forecasts pass through a submission before they are judged: it holds those of `TRACKED`
    classes, as far away as the range of the class that they have there. Frames of reference as in `true_motions`.
    """
    if frame.objects is None:
        return Gap(frame.token, "annotations")
    submitted = [(box, box.motion) for box in boxes if box.motion is not None and box.label in TRACKED]
    mount, ego = frame.lidar2ego, frame.ego2global
    in_ego = np.array([box.center for box, _ in submitted]).reshape(-1, 3) @ mount.rotation.T + mount.translation
    near = within_reach([box.label for box, _ in submitted], in_ego)
    labels = np.array([categories[box.label] for box, _ in submitted], np.str_)
    places = in_ego @ ego.rotation.T + ego.translation
    rows = np.flatnonzero(near & counts(frame, frame.objects, labels, places))
    return Forecasts(
        sample=np.full(len(rows), frame.token),
        label=labels[rows],
        centre=places[rows, :2],
        score=np.array([submitted[row][0].score for row in rows]),
        path=np.array([submitted[row][1].trajectories for row in rows], np.float64),
    )


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
