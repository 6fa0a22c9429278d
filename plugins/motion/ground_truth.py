"""Where everything really went: what forecasts are judged by.

Paths follow nuScenes' prediction helper: at most two positions a second, none later than a margin after the horizon.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ModelConfig
from toolkit.data.frames import Float64Array
from toolkit.data.ground_truth import AnnotatedFrame, AnnotatedScene, Gap, GroundTruth, Objects
from toolkit.training.objects import trained_objects
from toolkit.training.spec import FrameTruth

FUTURE_STEPS, PAST_STEPS, STEPS_OF_FUTURE_IN_PAST = 12, 4, 4
FUTURE_END, PAST_END = 6_150_000, 2_150_000
"""Microseconds: positions at this time and after are not taken."""


@dataclass(frozen=True, eq=False)
class AgentPaths:
    """Paths of the N objects of a frame along the axes of its LiDAR frame (m). A mask is 1 where a position is known.

    Positions follow each other in time; where an object is not annotated for a while, they close up.
    """

    future: Float64Array
    """[N, 12, 2]: in the LiDAR frame, or relative to the object."""
    future_mask: Float64Array
    """[N, 12, 2]"""
    past: Float64Array
    """[N, 8, 2]: four positions relative to the object, the latest first, then the first four of the future as
    `future` has them; nothing at all without a past."""
    past_mask: Float64Array
    """[N, 8, 2]"""
    gap: Gap | None
    """Set if there are objects, but the future of none is known, as at the end of a scene."""


@dataclass(frozen=True, eq=False)
class EgoPath:
    """Where the ego goes in its own frame turned so that y is ahead and x to the right (m); 0 where the scene ended."""

    future: Float64Array
    """[12, 2]"""
    mask: Float64Array
    """[12, 2]: 1 where the key frame exists."""
    velocity: Float64Array
    """[2]: until the next key frame, along x and y of the LiDAR frame (m/s); at the end of a scene that of the key
    frame before, in its LiDAR frame; NaN in a scene of one key frame."""


def agent_paths(scene: AnnotatedScene, index: int, *, absolute: bool = True) -> AgentPaths | Gap:
    """The paths of the objects of key frame `index`, in their order.

    A path is turned by as much as the object's heading is between the world and the LiDAR frame, seen from above; the
    vehicle's tilt is left out. With `absolute` the future is in the LiDAR frame, else relative to the object.
    """
    now = scene.frames[index]
    if now.objects is None:
        return Gap(now.token, "annotations")
    objects, turn = now.objects, _turn(now, now.objects)
    future, future_mask = _walk(now, objects, scene.frames[index + 1 :], FUTURE_STEPS, FUTURE_END)
    before, before_mask = _walk(now, objects, reversed(scene.frames[:index]), PAST_STEPS, PAST_END)
    future = np.einsum("nij,ntj->nti", turn, future)
    if absolute:
        future = np.where(future_mask > 0, future + objects.center[:, None, :2], 0.0)
    past = np.concatenate((np.einsum("nij,ntj->nti", turn, before), future[:, :STEPS_OF_FUTURE_IN_PAST]), 1)
    past_mask = np.concatenate((before_mask, future_mask[:, :STEPS_OF_FUTURE_IN_PAST]), 1)
    known = before_mask[:, :1, :1] > 0
    gap = Gap(now.token, "the future of all objects") if len(future) and not future_mask.any() else None
    return AgentPaths(future, future_mask, np.where(known, past, 0.0), np.where(known, past_mask, 0.0), gap)


def ego_path(scene: AnnotatedScene, index: int) -> EgoPath:
    """Where the ego is at the key frames after `index`, whatever time lies between them."""
    now = scene.frames[index].ego2global
    later = scene.frames[index + 1 :][:FUTURE_STEPS]
    future, mask = np.zeros((FUTURE_STEPS, 2)), np.zeros((FUTURE_STEPS, 2))
    for step, frame in enumerate(later):
        future[step] = _rotation(np.pi / 2 - now.yaw) @ (frame.ego2global.translation - now.translation)[:2]
        mask[step] = 1
    return EgoPath(future, mask, _ego_velocity(scene, index))


def motion_truth(truth: GroundTruth, config: ModelConfig) -> FrameTruth:
    """What the forecast is trained on in a clip's last frame; see `frame_truth`."""
    return lambda scene, index, *, last: frame_truth(scene, index, config) if last else {}


def frame_truth(scene: AnnotatedScene, index: int, config: ModelConfig) -> Mapping[str, NDArray[Any]] | Gap:
    """Futures of the trained objects in their order, in the LiDAR frame, and the ego's in its own, with masks."""
    paths, objects = agent_paths(scene, index), scene.frames[index].objects
    if isinstance(paths, Gap) or objects is None:
        return paths if isinstance(paths, Gap) else Gap(scene.frames[index].token, "annotations")
    rows, ego, steps = trained_objects(objects, config), ego_path(scene, index), config.motion.steps
    return {
        "gt_fut_traj": paths.future[rows, :steps],
        "gt_fut_traj_mask": paths.future_mask[rows, :steps],
        "gt_sdc_fut_traj": ego.future[None, :steps],
        "gt_sdc_fut_traj_mask": ego.mask[None, :steps],
    }


def _ego_velocity(scene: AnnotatedScene, index: int) -> Float64Array:
    if len(scene.frames) < 2:
        return np.full(2, np.nan)
    start = min(index, len(scene.frames) - 2)
    now, then = scene.frames[start : start + 2]
    moved = then.ego2global.translation - now.ego2global.translation
    seconds = (then.microseconds - now.microseconds) / 1e6
    velocity: Float64Array = (moved / seconds @ now.ego2global.rotation @ now.lidar2ego.rotation)[:2]
    return velocity


def _walk(
    now: AnnotatedFrame, objects: Objects, others: Iterable[AnnotatedFrame], steps: int, end: int
) -> tuple[Float64Array, Float64Array]:
    """Positions [N, steps, 2] relative to those of now, along the axes of the world, and their mask."""
    count = np.zeros(len(objects.number), np.int64)
    moved, mask = np.zeros((len(count), steps, 2)), np.zeros((len(count), steps, 2))
    for frame in others:
        if abs(frame.microseconds - now.microseconds) >= end or (count == steps).all():
            break
        if frame.objects is None:
            continue
        rows, there = np.nonzero(objects.number[:, None] == frame.objects.number)
        rows, there = rows[count[rows] < steps], there[count[rows] < steps]
        moved[rows, count[rows]] = (frame.objects.position[there] - objects.position[rows])[:, :2]
        mask[rows, count[rows]] = 1
        count[rows] += 1
    return moved, mask


def _turn(now: AnnotatedFrame, objects: Objects) -> Float64Array:
    """Rotations [N, 2, 2] from the world's axes to those of the LiDAR."""
    seen = objects.ahead @ now.ego2global.rotation @ now.lidar2ego.rotation
    angles = np.arctan2(seen[:, 1], seen[:, 0]) - np.arctan2(objects.ahead[:, 1], objects.ahead[:, 0])
    return np.moveaxis(_rotation(angles), -1, 0) if len(angles) else np.zeros((0, 2, 2))


def _rotation(angle: float | NDArray[np.float64]) -> Float64Array:
    """[2, 2, ...]: counter-clockwise."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
