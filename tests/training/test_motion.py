"""Losses of the motion forecast: the reference's on the golden clip, and numbers that can be followed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from plugins.motion.losses import final_displacements, layer_losses, motion_losses, negative_log_likelihood
from tests.training.conftest import GoldenClip


def test_losses_are_the_reference_s(stage2_clip: GoldenClip) -> None:
    """Of all three decoder layers, against the targets as smoothed by the reference."""
    outputs = {name: stage2_clip.outputs[f"motion.{name}"] for name in ("all_traj_preds", "all_traj_scores")}
    targets, known = stage2_clip.outputs["motion.matched_gt_traj"], stage2_clip.outputs["motion.matched_gt_traj_mask"]
    losses = motion_losses(outputs["all_traj_preds"][:, 0], outputs["all_traj_scores"][:, 0], targets, known)
    assert {f"motion.{name}" for name in losses} == {name for name in stage2_clip.exact if name.startswith("motion.")}
    for name, loss in losses.items():
        stage2_clip.check(f"motion.{name}", loss)


def test_the_last_branch_gets_the_reference_s_gradient(stage2_clip: GoldenClip) -> None:
    """Through what is made of its output: points are sums of displacements, deviations exp, correlations tanh."""
    outputs = stage2_clip.outputs
    targets, known = outputs["motion.matched_gt_traj"], outputs["motion.matched_gt_traj_mask"]
    with torch.enable_grad():
        paths = outputs["motion.all_traj_preds"][-1, 0].clone().requires_grad_()
        layer_losses(paths, outputs["motion.all_traj_scores"][-1, 0], targets, known)["loss_traj"].backward()
    assert paths.grad is not None
    moved = paths.grad[..., :2].flip(-2).cumsum(-2).flip(-2)
    deviations = paths.grad[..., 2:4] * paths[..., 2:4].detach()
    correlation = paths.grad[..., 4:] * (1 - paths[..., 4:].detach() ** 2)
    gradient = torch.cat((moved, deviations, correlation), -1).sum((0, 1)).flatten()
    stage2_clip.check_gradient("motion_head.traj_reg_branches.2.4.bias", gradient)


def test_likelihood_of_a_standard_normal_distribution() -> None:
    """One metre off: half a squared deviation and log 2π; without a density, nothing."""
    certain = torch.tensor([[0.0, 0, 1, 1, 0], [0, 0, 1, 1, 1]])
    assert negative_log_likelihood(certain, torch.tensor([1.0, 0.0])).tolist() == pytest.approx(
        [0.5 + math.log(2 * math.pi), 0]
    )


def test_without_a_density_there_is_no_gradient_either() -> None:
    """A correlation that has saturated at 1, and a deviation that has overflown."""
    with torch.enable_grad():
        degenerate = torch.tensor([[0.0, 0, 1, 1, 1], [0, 0, math.inf, 1, 0]], requires_grad=True)
        negative_log_likelihood(degenerate, torch.ones(2)).sum().backward()
    assert degenerate.grad is not None
    assert not degenerate.grad.any()


def test_the_mode_nearest_on_average_is_trained() -> None:
    """The second mode is 1 m off all along, the first ends where it should and is 5 m off before."""
    paths = torch.tensor([[[5.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])
    normal = torch.cat((paths, torch.ones(2, 2, 2), torch.zeros(2, 2, 1)), -1)[None]
    log_probabilities = torch.tensor([[0.25, 0.75]]).log()
    losses = layer_losses(normal, log_probabilities, torch.zeros(1, 2, 2), torch.ones(1, 2, dtype=torch.bool))
    expected = {
        "l_class": -math.log(0.75),
        "l_reg": 0.5 + math.log(2 * math.pi),
        "min_ade": 1,
        "min_fde": 0,
        "mr": 0,
    }
    expected["loss_traj"] = 0.5 * (expected["l_class"] + expected["l_reg"])
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=2e-5)


def test_agents_without_a_future_only_add_to_the_count() -> None:
    """Their class is that of the first mode."""
    known = torch.tensor([[False, False]])
    losses = layer_losses(torch.rand(1, 3, 2, 5), torch.full((1, 3), -2.0), torch.zeros(1, 2, 2), known)
    assert losses["l_class"].item() == pytest.approx(2, rel=2e-5)
    assert all(losses[name].item() == 0 for name in ("l_reg", "min_ade", "min_fde", "mr"))


def test_the_end_is_the_last_known_step() -> None:
    distances = torch.tensor([[[1.0, 2.0, 3.0]]] * 3)
    known = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    assert final_displacements(distances, known).flatten().tolist() == [2, 3, 0]
