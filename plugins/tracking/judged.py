"""What nuScenes' detection and tracking evaluations compare: the boxes of a frame that count, true and found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import cdist

from plugins.tracking.rules import RANGES, counts
from plugins.tracking.submission import LEAST_SIZE, GlobalBoxes, upright
from toolkit.data.ground_truth import AnnotatedFrame, Objects

SURE = 0.3
"""Score from which a detection counts for `missed_objects`."""
WITHIN = 2.0
"""Metres between the centres of an object and its detection."""


@dataclass(frozen=True, eq=False)
class JudgedBoxes:
    """Boxes of a frame of a scene: nearer than their class is judged, hit by a sensor if true, and not in a rack."""

    scene: str
    token: str
    microseconds: int
    true: GlobalBoxes
    found: GlobalBoxes


def judged_boxes(scene: str, frame: AnnotatedFrame, objects: Objects, found: GlobalBoxes) -> JudgedBoxes:
    """Those of a frame with its objects, and what has been found in it."""
    counted = found.where(counts(frame, objects, found.label, found.position))
    return JudgedBoxes(scene, frame.token, frame.microseconds, true_boxes(frame, objects), counted)


def true_boxes(frame: AnnotatedFrame, objects: Objects) -> GlobalBoxes:
    """The objects that count, standing upright."""
    named = np.flatnonzero(objects.hit & np.isin(objects.label, list(RANGES)))
    labels = [objects.label[i] for i in named]
    rows = named[counts(frame, objects, labels, objects.position[named])]
    to_lidar = (frame.ego2global.rotation @ frame.lidar2ego.rotation).T
    ahead = objects.ahead[rows]
    return GlobalBoxes(
        rows=rows,
        label=tuple(objects.label[i] for i in rows),
        attribute=tuple(objects.attribute[i] for i in rows),
        identity=tuple(objects.instance[i] for i in rows),
        score=np.full(len(rows), -1.0),
        position=objects.position[rows],
        size=np.maximum(objects.size[rows], LEAST_SIZE),
        rotation=upright(np.arctan2(ahead[:, 1], ahead[:, 0])),
        velocity=objects.velocity[rows] @ np.linalg.inv(to_lidar[:2, :2]).T,
    )


def missed_objects(boxes: JudgedBoxes) -> int:
    """How many true objects lack a sure detection of their class nearby, with at most one object to each detection.

    As few as possible are left out.
    """
    true, found = boxes.true, boxes.found
    near = cdist(true.position[:, :2], found.position[:, :2]) < WITHIN
    near &= np.equal.outer(np.array(true.label, np.str_), np.array(found.label, np.str_)) & (found.score >= SURE)
    if not near.any():
        return len(true)
    return int((maximum_bipartite_matching(csr_matrix(near), perm_type="column") < 0).sum())
