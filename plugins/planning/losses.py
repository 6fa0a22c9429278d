"""Losses of the planner: its distance to the driven path, and how much the ego would overlap with others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from plugins.planning.metrics import EGO_LENGTH, EGO_WIDTH

COUNT_EPS = 1e-5
COLLISIONS = ((0.0, 2.5), (0.5, 1.0), (1.0, 0.25))
"""Metres by which the ego is widened and lengthened, and the weight of the overlap."""


def planning_losses(plan: Tensor, driven: Tensor, mask: Tensor, boxes: Sequence[Tensor]) -> dict[str, Tensor]:
    """Losses of one sample, weighted, under their official names without the prefix ``planning.``.

    plan [6, 2] as (x, y) in metres in the LiDAR frame; driven [6, 3], the driven (x, y, yaw), 0 where the scene has
    ended; mask [6, 2], more than 0 where it is known; boxes, of each step [K, 9] as (x, y, z, width, length, height,
    yaw, vx, vy). Those of collisions carry no gradient, as in the reference.
    """
    losses = {"loss_ade": ade_loss(plan, driven[:, :2], mask)}
    widenings, weights = zip(*COLLISIONS, strict=True)
    overlaps = overlap_with_boxes(plan, driven[:, 2], boxes, widenings)
    for number, (weight, overlap) in enumerate(zip(weights, overlaps, strict=True)):
        losses[f"loss_collision_{number}"] = weight * overlap
    return losses


def ade_loss(plan: Tensor, driven: Tensor, mask: Tensor) -> Tensor:
    """Mean distance in metres of points [6, 2] over the steps that mask [6, 2] knows."""
    known = (mask > 0).any(-1).to(plan)
    distances: Tensor = torch.linalg.vector_norm(plan - driven, dim=-1)
    return (distances * known).sum() / (known.sum() + COUNT_EPS)


@torch.no_grad()
def overlap_with_boxes(plan: Tensor, yaw: Tensor, boxes: Sequence[Tensor], widenings: Sequence[float]) -> Tensor:
    """Area in m² that the ego shares with each box of each step, summed, for each widening in metres: [W].

    Each is taken as its hull along the axes. plan [6, 2]; yaw [6] of the ego in radians; boxes as in `planning_losses`.
    Unknown steps count too.
    """
    sizes = plan.new_tensor([(EGO_WIDTH + widening, EGO_LENGTH + widening) for widening in widenings])
    ego_half = half_extents(sizes[:, None].expand(-1, len(plan), -1), yaw.to(plan))
    # All boxes at once, each with the ego of its step.
    steps = torch.tensor([number for number, each in enumerate(boxes) for _ in each], dtype=torch.long)
    steps = steps.to(plan.device)
    centre, half, others = plan[steps], ego_half[:, steps], torch.cat(list(boxes))
    others_half = half_extents(others[:, 3:5], others[:, 6])
    low = torch.maximum(centre - half, others[:, :2] - others_half)
    high = torch.minimum(centre + half, others[:, :2] + others_half)
    return (high - low).clamp(min=0).prod(-1).sum(-1)


def half_extents(size: Tensor, yaw: Tensor) -> Tensor:
    """Half of the hull's extents along x and y, [..., 2], of rectangles of size [..., 2] (along x, y) turned by yaw."""
    cos, sin = yaw.cos().abs(), yaw.sin().abs()
    width, length = size.unbind(-1)
    return torch.stack((width * cos + length * sin, width * sin + length * cos), -1) / 2
