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
    of_layers = layer_losses(trajectories, log_probabilities, targets, known)
    prefixes = [f"d{layer}." for layer in range(len(trajectories) - 1)] + [""]
    values = zip(*(each.unbind() for each in of_layers.values()), strict=True)
    return {
        prefix + name: loss
        for prefix, of_layer in zip(prefixes, values, strict=True)
        for name, loss in zip(of_layers, of_layer, strict=True)
    }


def layer_losses(trajectories: Tensor, log_probabilities: Tensor, targets: Tensor, known: Tensor) -> dict[str, Tensor]:
    """Those of one decoder layer, or of all at once; arguments as for `motion_losses`, of that layer or of all.

    Sums over agents are divided by all of them, also those whose future is unknown and adds nothing.
    """
    distances = torch.linalg.vector_norm(trajectories[..., :2] - targets[:, None], dim=-1)
    ade = average_displacements(distances, known)
    fde = final_displacements(distances, known)
    best = ade.argmin(-1, keepdim=True)
    paths = trajectories.gather(-3, best[..., None, None].expand(*best.shape, *trajectories.shape[-2:])).squeeze(-3)
    likelihood = negative_log_likelihood(paths, targets)
    regression = (likelihood * known).sum(-1) / (known.sum(-1) + COUNT_EPS)
    count = len(targets) + COUNT_EPS

    l_class = -log_probabilities.gather(-1, best).sum((-2, -1)) / count
    l_reg = regression.sum(-1) / count
    min_fde = fde.amin(-1).sum(-1) / count
    return {
        "loss_traj": CLASS_WEIGHT * l_class + REGRESSION_WEIGHT * l_reg + END_WEIGHT * min_fde,
        "l_class": l_class,
        "l_reg": l_reg,
        "min_ade": ade.amin(-1).sum(-1) / count,
        "min_fde": min_fde,
        "mr": miss_rate(distances, known),
    }


def average_displacements(distances: Tensor, known: Tensor) -> Tensor:
    """Mean over known [N, T] steps of distances [..., N, modes, T]: [..., N, modes]; 0 where no step is known."""
    return (distances * known[:, None]).sum(-1) / known.sum(-1).clamp(min=1)[:, None]


def final_displacements(distances: Tensor, known: Tensor) -> Tensor:
    """Distances [..., N, modes, T] at the last of the known [N, T] steps; 0 where no step is known: [..., N, modes]."""
    steps = known.sum(-1)
    last = (steps - 1).clamp(min=0)[:, None, None].expand(*distances.shape[:-1], 1)
    return distances.gather(-1, last).squeeze(-1) * (steps > 0)[:, None]


def miss_rate(distances: Tensor, known: Tensor) -> Tensor:
    """Share of the agents of whom every mode is more than 2 m off at some known step."""
    farthest = (distances * known[:, None]).amax(-1)
    return (farthest.amin(-1) > MISS_METRES).to(distances).mean(-1)


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
