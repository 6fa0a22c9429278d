"""Losses of the motion forecast: the best mode's likelihood and end, and that it is the one deemed likely."""

from __future__ import annotations

import math

import torch
from torch import Tensor

COUNT_EPS = 1e-5
CLASS_WEIGHT, REGRESSION_WEIGHT, END_WEIGHT = 0.5, 0.5, 0.25
MISS_METRES = 2.0
LOG_TWO_PI = math.log(2 * math.pi)


def motion_losses(trajectories: Tensor, log_probabilities: Tensor, targets: Tensor, known: Tensor) -> dict[str, Tensor]:
    """Losses and figures of all decoder layers, under their official names without the prefix ``motion.``.

    trajectories [layers, N, modes, T, 5] and log_probabilities [layers, N, modes], as `MotionHead` gives them, of N
    agents and ego; targets [N, T, 2], their futures in metres from where they are; known [N, T] bool, in each row true
    up to some step. Only names with "loss" are trained on; layers but the last have the prefix ``d0.`` and so on.
    """
    last = len(trajectories) - 1
    losses: dict[str, Tensor] = {}
    for layer, (paths, scores) in enumerate(zip(trajectories, log_probabilities, strict=True)):
        prefix = "" if layer == last else f"d{layer}."
        losses |= {prefix + name: loss for name, loss in layer_losses(paths, scores, targets, known).items()}
    return losses


def layer_losses(trajectories: Tensor, log_probabilities: Tensor, targets: Tensor, known: Tensor) -> dict[str, Tensor]:
    """Those of one decoder layer; arguments as for `motion_losses`, of that layer.

    Sums over agents are divided by all of them, also those whose future is unknown and adds nothing.
    """
    agents = torch.arange(len(targets), device=targets.device)
    distances = torch.linalg.vector_norm(trajectories[..., :2] - targets[:, None], dim=-1)
    ade = average_displacements(distances, known)
    fde = final_displacements(distances, known)
    best = ade.argmin(-1)
    likelihood = negative_log_likelihood(trajectories[agents, best], targets)
    regression = (likelihood * known).sum(-1) / (known.sum(-1) + COUNT_EPS)
    count = len(targets) + COUNT_EPS

    l_class = -log_probabilities[agents, best].sum() / count
    l_reg = regression.sum() / count
    min_fde = fde.amin(-1).sum() / count
    return {
        "loss_traj": CLASS_WEIGHT * l_class + REGRESSION_WEIGHT * l_reg + END_WEIGHT * min_fde,
        "l_class": l_class,
        "l_reg": l_reg,
        "min_ade": ade.amin(-1).sum() / count,
        "min_fde": min_fde,
        "mr": miss_rate(distances, known),
    }


def average_displacements(distances: Tensor, known: Tensor) -> Tensor:
    """Mean over known [N, T] steps of distances [N, modes, T]: [N, modes]; 0 where no step is known."""
    return (distances * known[:, None]).sum(-1) / known.sum(-1).clamp(min=1)[:, None]


def final_displacements(distances: Tensor, known: Tensor) -> Tensor:
    """Distances [N, modes, T] at the last of the known [N, T] steps: [N, modes]; 0 where no step is known."""
    steps = known.sum(-1)
    last = (steps - 1).clamp(min=0)[:, None, None].expand(-1, distances.shape[1], 1)
    return distances.gather(-1, last).squeeze(-1) * (steps > 0)[:, None]


def miss_rate(distances: Tensor, known: Tensor) -> Tensor:
    """Share of the agents of whom every mode is more than 2 m off at some known step."""
    farthest = (distances * known[:, None]).amax(-1)
    return (farthest.amin(-1) > MISS_METRES).to(distances).mean()


def negative_log_likelihood(trajectories: Tensor, targets: Tensor) -> Tensor:
    """-log of the density of normal distributions [..., 5] at points [..., 2]; 0 where that is not finite.

    A distribution is its mean (x, y), the inverses of both deviations and the correlation.
    """
    with torch.no_grad():
        finite = _negative_log_density(trajectories, targets).isfinite()
    # What is not finite must not be computed with a gradient, which would be NaN though the value is left out.
    standard = trajectories.new_tensor((0.0, 0.0, 1.0, 1.0, 0.0))
    sound = torch.where(finite.unsqueeze(-1), trajectories, standard)
    return torch.where(finite, _negative_log_density(sound, targets), 0)


def _negative_log_density(trajectories: Tensor, targets: Tensor) -> Tensor:
    x, y, inverse_x, inverse_y, correlation = trajectories.unbind(-1)
    dx, dy = (x - targets[..., 0]) * inverse_x, (y - targets[..., 1]) * inverse_y
    root = (1 - correlation**2).rsqrt()
    exponent = 0.5 * root**2 * (dx**2 + dy**2 - 2 * correlation * dx * dy)
    return exponent - (inverse_x * inverse_y * root).log() + LOG_TWO_PI
