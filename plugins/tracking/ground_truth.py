"""What tracking is trained on: the objects of a key frame with their paths, and the ego among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plugins.motion.ground_truth import agent_paths, ego_path
from toolkit.config.model import ModelConfig
from toolkit.data.ground_truth import AnnotatedScene, Gap, GroundTruth
from toolkit.data.standpoint import EGO_BOX_BOTTOM
from toolkit.training.objects import trained_boxes, trained_objects, yaw_of
from toolkit.training.spec import FrameTruth

EGO_SIZE = (1.73, 4.08, 1.56)
"""Width, length, height (m) of the box that stands for the ego; its bottom is below the LiDAR."""
EGO_HEADING = np.pi / 2
EGO_CLASS = 0


def track_truth(truth: GroundTruth, config: ModelConfig) -> FrameTruth:
    """What tracking is trained on in a frame; see `frame_truth`."""
    return lambda scene, index, *, last: frame_truth(scene, index, config)


def frame_truth(scene: AnnotatedScene, index: int, config: ModelConfig) -> Mapping[str, NDArray[Any]] | Gap:
    """Boxes, classes and ids of the objects of key frame `index`, their short paths, and the ego's box and class.

    An id is one more than the object's number, so that none is 0.
    """
    paths = agent_paths(scene, index)
    objects = scene.frames[index].objects
    if isinstance(paths, Gap) or objects is None:
        return paths if isinstance(paths, Gap) else Gap(scene.frames[index].token, "annotations")
    rows = trained_objects(objects, config)
    classes = {name: number for number, name in enumerate(config.class_names)}
    return {
        "gt_bboxes_3d": trained_boxes(objects, rows, config),
        "gt_labels_3d": np.array([classes[objects.label[row]] for row in rows], np.int64),
        "gt_inds": objects.number[rows] + 1,
        "gt_past_traj": paths.past[rows],
        "gt_past_traj_mask": paths.past_mask[rows],
        "gt_sdc_bbox": ego_box(np.nan_to_num(ego_path(scene, index).velocity), config),
        "gt_sdc_label": np.array([EGO_CLASS], np.int64),
    }


def ego_box(velocity: NDArray[np.float64], config: ModelConfig) -> NDArray[np.float32]:
    """The ego's box [1, 9] in its own LiDAR frame, at a velocity [2] (m/s)."""
    yaw = yaw_of(np.array([EGO_HEADING]), config)
    return np.concatenate((EGO_BOX_BOTTOM, EGO_SIZE, yaw, velocity)).astype(np.float32)[None]
