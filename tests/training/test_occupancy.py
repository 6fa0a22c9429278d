"""Losses of the occupancy forecast: the reference's on the golden clip, and numbers that can be followed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from plugins.occupancy.losses import (
    dice_loss,
    instance_targets,
    known_steps,
    mask_loss,
    occupancy_losses,
    supervised,
)
from tests.training.conftest import GoldenClip
from toolkit.config.model import ModelConfig

STEPS = 5


def test_losses_and_objects_are_the_reference_s(stage2_clip: GoldenClip) -> None:
    truth, outputs, matches = stage2_clip.truth, stage2_clip.outputs, stage2_clip.assignments
    matched = torch.tensor(matches["active_last_frame"]["gt"])
    labels, object_ids = truth["gt_labels_3d.2"], truth["gt_inds.2"]
    agents, ids = supervised(matched, labels, object_ids, ModelConfig().occupancy.vehicle_classes)
    assert matched[agents].tolist() == matches["occ_matched_gt_idx"][0]

    targets = instance_targets(truth["gt_instance"][0, :STEPS], ids)
    known = known_steps(truth["gt_occ_img_is_valid"][0], STEPS)
    logits, attended = outputs["occ.ins_occ_logits"][0], outputs["occ.mask_preds"][0]
    losses = occupancy_losses(logits, attended, targets, known)
    assert {f"occ.{name}" for name in losses} == {name for name in stage2_clip.exact if name.startswith("occ.")}
    for name, loss in losses.items():
        stage2_clip.check(f"occ.{name}", loss)


def test_targets_are_the_cells_of_an_object() -> None:
    """An object numbered 255 is on the map under another number, for 255 there says unknown."""
    instances = torch.tensor([[[7, 0, -20]], [[255, 255, 255]]])
    targets = instance_targets(instances, torch.tensor([7, 255]))
    assert targets[:, 0, 0].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert (targets[:, 1] == 255).all()


def test_nothing_is_known_without_the_past() -> None:
    exists = torch.tensor([True] * 5 + [False] + [True] * 3)
    assert known_steps(exists, STEPS).tolist() == [True, True, True, False, True]
    exists[0] = False
    assert not known_steps(exists, STEPS).any()


def test_mask_loss_takes_the_hardest_quarter() -> None:
    """One of four cells counts, the one that is wrong; a later step counts for less, an unknown one as nothing."""
    logits = torch.tensor([0.0, -50, -50, -50]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    loss = mask_loss(logits, torch.zeros(1, 3, 2, 2, dtype=torch.int64), torch.tensor([True, True, False]))
    assert loss.item() == pytest.approx(math.log(2) * (1 + 0.95) / 3)


def test_unknown_cells_have_no_gradient() -> None:
    targets = torch.full((1, 1, 2, 2), 255)
    with torch.enable_grad():
        logits = torch.ones(1, 1, 2, 2, requires_grad=True)
        known = torch.tensor([True])
        (mask_loss(logits, targets, known) + dice_loss(logits, targets, known)).backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_dice_of_halves() -> None:
    """p is a half everywhere and one of four cells is occupied: 1 - (2 x 0.5 + 1) / (2 + 1 + 1)."""
    targets = torch.tensor([[[[1, 0], [0, 0]]]])
    assert dice_loss(torch.zeros(1, 1, 2, 2), targets, torch.tensor([True])).item() == pytest.approx(0.5)
    assert dice_loss(torch.zeros(1, 1, 2, 2), targets, torch.tensor([False])).item() == 0
