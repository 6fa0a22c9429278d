"""Which motions count, true and forecast, by the rules of nuScenes' detection and the classes as they are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from plugins.motion.ground_truth import agent_paths
from plugins.motion.metrics import MOTION_CATEGORIES, Forecasts, TrueMotions
from plugins.tracking.rules import TRACKED, counts, within_reach
from toolkit.data.ground_truth import AnnotatedFrame, AnnotatedScene, Gap
from toolkit.runtime.results import TrackedBox

DETECTION_CATEGORIES: Mapping[str, str] = {name: name for name in MOTION_CATEGORIES}
"""The finer of the two groupings in which UniAD reports: every class for itself."""


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
