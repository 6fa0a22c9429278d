"""Inputs of deformable attention whose gradients can be compared."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MARGIN = 0.02
"""In cells; FP32 locations are exact to 1e-5 of one."""


def off_the_lines(
    inputs: Sequence[Tensor], spatial_shapes: Sequence[int], level_points: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The inputs with offsets that lead nowhere near the lines through cell centres.

    There gradients of locations jump, so that rounding would decide which of two it is.
    """
    value, reference, offsets, logits = inputs
    references = reference.shape[3] // 2
    moved = []
    for level, part in enumerate(offsets.split([2 * points for points in level_points], 3)):
        height, width = spatial_shapes[2 * level : 2 * level + 2]
        origin = reference[:, :, level % reference.shape[2]].unflatten(2, (1, 1, references, 2))
        move = part.unflatten(3, (-1, references, 2))
        place = origin.double() * origin.new_tensor([width, height]) + move.double() - 0.5
        is_near = (place - place.round()).abs() < MARGIN
        moved.append((move + 5 * MARGIN * is_near).to(offsets.dtype).flatten(3))
    return value, reference, torch.cat(moved, 3), logits
