"""Where the vehicle really drove: what a plan is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ModelConfig, YawConvention
from toolkit.data.frames import Command, Float64Array
from toolkit.data.ground_truth import AnnotatedFrame, AnnotatedScene, Gap, GroundTruth
from toolkit.data.standpoint import EGO_BOX_BOTTOM, driving_command, seen_from, turned
from toolkit.training.objects import trained_boxes, yaw_of
from toolkit.training.spec import FrameTruth

STEPS = 6
"""Key frames ahead, half a second each."""


@dataclass(frozen=True, eq=False)
class DrivenPath:
    """The ego in the LiDAR frame of a moment, at the following key frames; 0 where the scene has ended.

    It is followed by the bottom of a box about the LiDAR, so that the vehicle's tilt moves it a little.
    """

    points: Float64Array
    """[6, 2]: x and y (m)."""
    heading: Float64Array
    """[6]: counter-clockwise from x and not wrapped; straight ahead is π/2 (radians)."""
    mask: Float64Array
    """[6, 2]: 1 where the key frame exists."""
    command: Command
    """Where the route leads."""
    gap: Gap | None
    """Set if any of the key frames is missing."""


def driven_path(scene: AnnotatedScene, index: int) -> DrivenPath:
    """What the vehicle drove after key frame `index` of a scene."""
    now, later = scene.frames[index], scene.frames[index + 1 :]
    points, heading, mask = np.zeros((STEPS, 2)), np.zeros(STEPS), np.zeros((STEPS, 2))
    for step, then in enumerate(later[:STEPS]):
        points[step] = seen_from(now, then, EGO_BOX_BOTTOM)[:2]
        heading[step] = np.pi / 2 + turned(now, then)
        mask[step] = 1
    gap = None if mask.all() else Gap(now.token, "part of the driven path")
    return DrivenPath(points, heading, mask, driving_command(now, later), gap)


def plan_truth(truth: GroundTruth, config: ModelConfig) -> FrameTruth:
    """What the planner is trained on in a clip's last frame; see `frame_truth`."""
    return lambda scene, index, *, last: frame_truth(scene, index, config) if last else {}


def frame_truth(scene: AnnotatedScene, index: int, config: ModelConfig) -> Mapping[str, NDArray[Any]]:
    """The driven path with the ego's yaw, 0 where the scene has ended, and the boxes of now and of its key frames.

    Boxes are those of all annotated objects of the classes, in the LiDAR frame of now; none where the scene has ended.
    Yaws are clockwise from -y whatever the network's boxes mean: the losses take their hulls.
    """
    config = replace(config, yaw_convention=YawConvention.CLOCKWISE)
    driven = driven_path(scene, index)
    yaw = np.where(driven.mask[:, 0] > 0, yaw_of(driven.heading, config), 0)
    now, later = scene.frames[index], scene.frames[index : index + STEPS + 1]
    boxes = {f"gt_future_boxes.{step}": np.zeros((0, 9), np.float32) for step in range(STEPS + 1)}
    boxes |= {f"gt_future_boxes.{step}": boxes_then(now, then, config) for step, then in enumerate(later)}
    return {
        "sdc_planning": np.concatenate((driven.points, yaw[:, None]), 1)[None, None],
        "sdc_planning_mask": driven.mask[None, None],
        **boxes,
    }


def boxes_then(now: AnnotatedFrame, then: AnnotatedFrame, config: ModelConfig) -> NDArray[np.float32]:
    """[K, 9]: the boxes of the objects of `then` as the LiDAR of `now` sees them; see `trained_boxes`."""
    objects = then.objects
    if objects is None:
        return np.zeros((0, 9), np.float32)
    turn = turned(now, then)
    cos, sin = np.cos(turn), np.sin(turn)
    seen = replace(
        objects,
        center=seen_from(now, then, objects.center),
        heading=objects.heading + turn,
        velocity=objects.velocity @ np.array([[cos, sin], [-sin, cos]]),
    )
    return trained_boxes(seen, np.flatnonzero(np.isin(objects.label, config.class_names)), config)
