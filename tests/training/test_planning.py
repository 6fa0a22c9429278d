"""The planner's losses: the reference's on the golden clip, and numbers that can be followed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from plugins.planning.losses import ade_loss, half_extents, overlap_with_boxes, planning_losses
from tests.training.conftest import GoldenClip


def test_losses_are_the_reference_s(stage2_clip: GoldenClip) -> None:
    truth = stage2_clip.truth
    boxes = [truth[f"gt_future_boxes.{step}"] for step in range(1, 7)]
    plan = stage2_clip.outputs["planning.sdc_traj"][0]
    losses = planning_losses(plan, truth["sdc_planning"][0, 0], truth["sdc_planning_mask"][0, 0], boxes)
    assert {f"planning.{name}" for name in losses} == {x for x in stage2_clip.exact if x.startswith("planning.")}
    for name, loss in losses.items():
        stage2_clip.check(f"planning.{name}", loss)


def test_the_last_branch_gets_the_reference_s_gradient(stage2_clip: GoldenClip) -> None:
    """It gives displacements, each of which moves all points from there on."""
    truth = stage2_clip.truth
    driven, mask = truth["sdc_planning"][0, 0], truth["sdc_planning_mask"][0, 0]
    with torch.enable_grad():
        plan = stage2_clip.outputs["planning.sdc_traj"][0].clone().requires_grad_()
        boxes = [truth[f"gt_future_boxes.{step}"] for step in range(1, 7)]
        torch.stack(list(planning_losses(plan, driven, mask, boxes).values())).sum().backward()
    assert plan.grad is not None
    stage2_clip.check_gradient("planning_head.reg_branch.2.bias", plan.grad.flip(0).cumsum(0).flip(0).flatten())


def test_distance_is_averaged_over_known_steps() -> None:
    """3-4-5 at the first step, nothing known of the second."""
    plan, mask = torch.tensor([[3.0, 4.0], [90.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert ade_loss(plan, torch.zeros(2, 2), mask).item() == pytest.approx(5 / (1 + 1e-5))


def test_a_plan_on_the_path_has_a_finite_gradient() -> None:
    with torch.enable_grad():
        plan = torch.zeros(6, 2, requires_grad=True)
        ade_loss(plan, torch.zeros(6, 2), torch.ones(6, 2)).backward()
    assert plan.grad is not None
    assert not plan.grad.any()


def test_overlap_is_the_area_that_hulls_share() -> None:
    """The ego of 1.85 m x 4.084 m lies in a large box at one step, and across its rim at the next."""
    box = torch.tensor([[0.0, 0, 0, 20, 20, 2, 0, 0, 0]])
    area = overlap_with_boxes(torch.tensor([[0.0, 0.0], [0.0, 10.0]]), torch.zeros(2), [box, box], [0.0])
    assert area.item() == pytest.approx(1.5 * 1.85 * 4.084)
    assert overlap_with_boxes(torch.zeros(1, 2), torch.zeros(1), [box[:0]], [0.0]).item() == 0


def test_overlap_carries_no_gradient() -> None:
    with torch.enable_grad():
        plan = torch.zeros(1, 2, requires_grad=True)
        overlap = overlap_with_boxes(plan, torch.zeros(1), [torch.ones(1, 9)], [1.0])
    assert overlap.item() > 0
    assert not overlap.requires_grad


def test_hull_of_turned_rectangles() -> None:
    """Upright, on its side, and in between."""
    hull = half_extents(torch.tensor([[2.0, 4.0]] * 3), torch.tensor([0.0, math.pi / 2, math.pi / 4]))
    torch.testing.assert_close(hull, torch.tensor([[1.0, 2.0], [2.0, 1.0], [3 * 0.5**0.5] * 2]))
