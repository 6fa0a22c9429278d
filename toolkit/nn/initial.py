"""Random weights to start a training from, as the reference's heads draw them."""

from __future__ import annotations

import math

import torch
from torch import nn

CLASS_PROBABILITY = 0.01


def xavier_matrices(module: nn.Module) -> None:
    """Every parameter with more than one dimension (Glorot and Bengio 2010), as the transformers' matrices."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


def rare_classes(classify: nn.Linear) -> None:
    """Let a classification begin with small scores, whatever it sees (Lin et al. 2017, "Focal Loss", section 4.1)."""
    nn.init.constant_(classify.bias, -math.log(1 / CLASS_PROBABILITY - 1))


def last_linear(branch: nn.Module) -> nn.Linear:
    """The layer that ends a branch."""
    return [part for part in branch.modules() if isinstance(part, nn.Linear)][-1]


def ring_of_samples(module: nn.Module) -> None:
    """Let each head of the deformable attentions in a module look into a direction of its own, at all points alike.

    Point p begins p + 1 cells away from the reference (Zhu et al. 2021, appendix A.4). Such an attention has the linear
    layers `sampling_offsets` and `attention_weights`, and says its `heads` and `points`.
    """
    for part in module.modules():
        offsets, weights = (getattr(part, name, None) for name in ("sampling_offsets", "attention_weights"))
        if isinstance(offsets, nn.Linear) and isinstance(weights, nn.Linear):
            _start_samples(offsets, int(part.heads), int(part.points))  # type: ignore[arg-type]
            for parameter in (offsets.weight, weights.weight, weights.bias):
                nn.init.zeros_(parameter)


@torch.no_grad()
def _start_samples(offsets: nn.Linear, heads: int, points: int) -> None:
    angles = torch.arange(heads) * (2 * math.pi / heads)
    directions = torch.stack((angles.cos(), angles.sin()), -1)
    directions /= directions.abs().amax(-1, keepdim=True)
    samples = directions[:, None, None] * torch.arange(1, points + 1)[:, None]
    offsets.bias.copy_(samples.expand(-1, len(offsets.bias) // samples.numel(), -1, -1).flatten())
