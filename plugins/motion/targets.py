"""What the motion forecast is trained to give: the futures of the objects that tracks have found, and the ego's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plugins.motion.interior_point import Array
from plugins.motion.smoothing import can_be_smoothed, smooth

LEAST_STEPS = 2
"""Known steps from which on a future is smoothed."""


@torch.no_grad()
def motion_targets(
    boxes: Tensor, objects: Tensor, truth: Mapping[str, Tensor], *, smoothed: bool
) -> tuple[Tensor, Tensor]:
    """Targets [A + 1, T, 2] and known [A + 1, T] bool for `motion_losses`, of A agents and last the ego.

    boxes [A, 9] as the network sees the agents (LiDAR frame: x, y, z, w, l, h, yaw, vx, vy), objects [A] int64 their
    rows in truth: `gt_bboxes_3d` [G, 9], `gt_fut_traj` [G, T, 2] where the centres will be (m, LiDAR axes of now),
    `gt_sdc_fut_traj` [1, T, 2] relative to the ego, and both with `_mask`, above 0 where known. Targets have the type
    of the futures, metres from where the object is; those of steps that are not known mean nothing.

    `smoothed` replaces futures by what a vehicle could drive from where the network sees the agent, if that succeeds.
    """
    centers, futures = truth["gt_bboxes_3d"][objects], truth["gt_fut_traj"][objects]
    known = (torch.cat((truth["gt_fut_traj_mask"][objects], truth["gt_sdc_fut_traj_mask"])) > 0).all(-1)
    targets = futures - centers[:, None, :2]
    if smoothed:
        starts, now, paths = (x.double().cpu().numpy() for x in (boxes, centers, futures))
        found = smooth_targets(starts, now, paths, known[:-1].sum(-1).cpu().numpy(), targets.double().cpu().numpy())
        targets = torch.from_numpy(found).to(targets)
    return torch.cat((targets, truth["gt_sdc_fut_traj"].to(targets))), known


def smooth_targets(boxes: Array, now: Array, futures: Array, steps: NDArray[np.integer[Any]], targets: Array) -> Array:
    """Targets [A, T, 2] with those replaced that can be smoothed.

    boxes and now [A, 9] as seen and as they are, futures [A, T, 2] of which the first `steps` [A] are known.
    """
    targets = targets.copy()
    starts = np.stack((*boxes[:, :2].T, heading(boxes), np.hypot(boxes[:, 7], boxes[:, 8])), -1)
    for count in np.unique(steps[steps >= LEAST_STEPS]):
        rows = np.flatnonzero(steps == count)
        references = reference_paths(now[rows], futures[rows, :count])
        able = can_be_smoothed(starts[rows], references)
        paths, good = smooth(starts[rows[able]], references[able])
        replaced = rows[able][good]
        targets[replaced] = 0
        targets[replaced, :count] = paths[good, 1:] - paths[good, :1]
    return targets


def reference_paths(now: Array, futures: Array) -> Array:
    """[A, T + 1, 3], x, y and heading to follow: of boxes [A, 9] and their futures [A, T, 2].

    A heading is that of the way from the step before; of the first step, as in the reference, that from the origin.
    """
    way = np.diff(futures, axis=1, prepend=0)
    yaw = np.concatenate((heading(now)[:, None], np.arctan2(way[..., 1], way[..., 0])), 1)
    return np.concatenate((np.concatenate((now[:, None, :2], futures), 1), yaw[..., None]), -1)


def heading(boxes: Array) -> Array:
    """[A], counter-clockwise from x in radians, of boxes [A, 9]: as their yaw gives it, not folded to a full turn."""
    return -math.pi / 2 - boxes[:, 6]
