"""Losses of the occupancy forecast: each vehicle's cells, now and in two seconds, against those it really occupies."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from plugins.occupancy.ground_truth import INSTEAD_OF_UNKNOWN, PAST, UNKNOWN

MASK_WEIGHT, DICE_WEIGHT = 5.0, 1.0
HARDEST = 0.25
"""Share of the cells of a vehicle and step that count: the worst ones."""
DISCOUNT = 0.95
"""Of each step against the one before."""
SMOOTHING = 1.0
"""Added to both sides of the dice fraction."""


def occupancy_losses(logits: Tensor, attended: Tensor, targets: Tensor, known: Tensor) -> dict[str, Tensor]:
    """Losses of one sample, weighted, under their official names without the prefix ``occ.``.

    logits [N, T, h, w] of N vehicles' cells; attended [N, T, h, w], those of the masks by which each step's layer
    attends; targets [N, T, h, w] int64 as of `instance_targets`; known [T] bool as of `known_steps`.
    """
    return {
        "loss_mask": MASK_WEIGHT * mask_loss(logits, targets, known),
        "loss_dice": DICE_WEIGHT * dice_loss(logits, targets, known),
        "loss_aux_mask": MASK_WEIGHT * mask_loss(attended, targets, known),
        "loss_aux_dice": DICE_WEIGHT * dice_loss(attended, targets, known),
    }


def supervised(matched: Tensor, labels: Tensor, ids: Tensor, vehicle_classes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Which agents [M] int64 are trained here, and the ids [M] of their objects: those whose object is a vehicle.

    matched [N] int64, the row of each agent's object in labels and ids [G] int64.
    """
    vehicle = torch.isin(labels[matched], labels.new_tensor(vehicle_classes))
    agents = vehicle.nonzero().squeeze(-1)
    return agents, ids[matched[agents]]


def instance_targets(instances: Tensor, ids: Tensor) -> Tensor:
    """1 where the object of an id [N] is, 0 elsewhere, 255 where the map [T, h, w] int64 says unknown: [N, T, h, w]."""
    ids = torch.where(ids == UNKNOWN, INSTEAD_OF_UNKNOWN, ids)
    return torch.where(instances == UNKNOWN, UNKNOWN, (instances == ids[:, None, None, None]).long())


def known_steps(exists: Tensor, steps: int) -> Tensor:
    """Which of the steps from the present on are known, [steps] bool; none where the past or the present is missing.

    exists [9] bool: two key frames of the past, the present, six to come.
    """
    return exists[PAST : PAST + steps] & exists[: PAST + 1].all()


def mask_loss(logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Mean cross entropy of the hardest quarter of each vehicle's and step's cells; unknown ones are zeros in it."""
    counts = (targets != UNKNOWN) & known[:, None, None]
    target = torch.where(counts, targets, 0).to(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * counts
    weights = DISCOUNT ** torch.arange(logits.shape[1], device=logits.device, dtype=logits.dtype)
    cells = entropy.flatten(2) * weights[:, None]
    return cells.topk(int(HARDEST * cells.shape[-1]), dim=-1).values.mean()


def dice_loss(logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """1 - (2 Σpg + 1) / (Σp + Σg + 1) over all known cells and steps of a vehicle, averaged over vehicles."""
    counts = (targets != UNKNOWN) & known[:, None, None]
    probability = (logits.sigmoid() * counts).flatten(1)
    target = torch.where(counts, targets, 0).to(logits).flatten(1)
    both, either = (probability * target).sum(-1), probability.sum(-1) + target.sum(-1)
    return (1 - (2 * both + SMOOTHING) / (either + SMOOTHING)).mean()
