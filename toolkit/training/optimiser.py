"""The optimiser of the reference, AdamW, and its schedule: linear warm-up, then a cosine from epoch to epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from toolkit.training.config import TrainingConfig

BASE = "base_rate"
"""Key of a parameter group: its learning rate before the schedule."""


def make_optimiser(parameters: Iterable[tuple[str, nn.Parameter]], config: TrainingConfig) -> AdamW:
    """AdamW over named parameters that require gradients, each group with its learning rate.

    A group steps at once ("fused"), on a GPU in a few kernels: one after the other parameters would take thousands.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            groups.setdefault(rate_factor(name, config.learning_rate_factors), []).append(parameter)
    rates = [{"params": members, BASE: config.learning_rate * factor} for factor, members in sorted(groups.items())]
    for group in rates:
        group["lr"] = group[BASE]
    return AdamW(
        rates, lr=config.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=config.weight_decay, fused=True
    )


def rate_factor(name: str, factors: Mapping[str, float]) -> float:
    """The factor of the longest key that a parameter's name contains; 1 without one."""
    matching = [key for key in factors if key in name]
    return factors[max(matching, key=len)] if matching else 1.0


def schedule(step: int, epoch: int, config: TrainingConfig) -> float:
    """Factor of the learning rates in a step (from 0, over all epochs) of an epoch (from 0)."""
    cosine = (1 + math.cos(math.pi * epoch / config.epochs)) / 2
    factor = config.final_ratio + (1 - config.final_ratio) * cosine
    if step < config.warmup_steps:
        factor *= 1 - (1 - step / config.warmup_steps) * (1 - config.warmup_ratio)
    return factor


def set_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to the factor of what it is before the schedule."""
    for group in optimiser.param_groups:
        group["lr"] = group[BASE] * factor


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Scale gradients down to a norm of `most` of all together; the norm that they had, a scalar on their device."""
    with_gradient = [parameter for parameter in parameters if parameter.grad is not None]
    return nn.utils.clip_grad_norm_(with_gradient, most)
