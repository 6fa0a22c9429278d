"""How weights follow their gradients: these are clipped, the optimiser steps, and they are gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from toolkit.training.graphs import Capture, Recorded, copy_all
from toolkit.training.optimiser import clip_gradients

Update = Callable[[], Tensor]
"""Makes a step; the norm of all gradients before they were clipped, a scalar on their device."""
MakeUpdate = Callable[[Optimizer, float], Update]
"""Of an optimiser, whose learning rates may change from step to step, and the norm to which gradients are clipped."""


class PlainUpdate:
    """Operator by operator."""

    def __init__(self, optimiser: Optimizer, most: float) -> None:
        self._optimiser, self._most = optimiser, most
        self._parameters = parameters_of(optimiser)

    def __call__(self) -> Tensor:
        norm = clip_gradients(self._parameters, self._most)
        self._optimiser.step()
        self._optimiser.zero_grad()
        return norm


class GraphedUpdate:
    """As one graph for each set of parameters that have a gradient, recorded in the first step of that set.

    The optimiser is a fused one of torch's, such as AdamW. It reads its learning rates from memory, rounded to FP32.
    """

    def __init__(self, optimiser: Optimizer, most: float, capture: Capture) -> None:
        self._optimiser, self._most, self._capture = optimiser, most, capture
        self._parameters = parameters_of(optimiser)
        self._gradients: dict[nn.Parameter, Tensor] = {}
        """From where graphs read them, whichever set they are of."""
        self._rates = [group["params"][0].new_zeros((), dtype=torch.float32) for group in optimiser.param_groups]
        self._recorded: dict[tuple[int, ...], tuple[list[Tensor], Recorded]] = {}

    @torch.no_grad()
    def __call__(self) -> Tensor:
        concerned = [each for each in self._parameters if each.grad is not None]
        for rate, group in zip(self._rates, self._optimiser.param_groups, strict=True):
            rate.fill_(group["lr"])
        key = tuple(map(id, concerned))
        if key not in self._recorded:
            norm: Tensor | None = self._first(key, concerned)
        else:
            gradients, recorded = self._recorded[key]
            copy_all(gradients, [each.grad for each in concerned if each.grad is not None])
            recorded.replay()
            norm = recorded.outputs[0]
        assert norm is not None
        for each in concerned:
            each.grad = None
        return norm

    @property
    def count(self) -> int:
        """How many sets of parameters have been recorded."""
        return len(self._recorded)

    def _first(self, key: tuple[int, ...], concerned: Sequence[nn.Parameter]) -> Tensor:
        """Make this step by what the next ones replay; that loads its kernels, and makes the optimiser's state."""
        for each in concerned:
            assert each.grad is not None
            if each not in self._gradients:
                self._gradients[each] = torch.empty_like(each)
            each.grad = self._gradients[each].copy_(each.grad)
        groups = self._optimiser.param_groups
        with set_in(groups, "lr", self._rates):
            (norm,) = self._run(concerned)
            with set_in(groups, "capturable", [True] * len(groups)):
                recorded = self._capture(partial(self._run, concerned))
        self._recorded[key] = [self._gradients[each] for each in concerned], recorded
        return norm

    def _run(self, concerned: Sequence[nn.Parameter]) -> tuple[Tensor]:
        norm = clip_gradients(concerned, self._most)
        self._optimiser.step()
        return (norm,)


@contextmanager
def set_in(groups: Sequence[dict[str, Any]], key: str, values: Sequence[object]) -> Iterator[None]:
    """A setting of an optimiser's groups for a while: what checkpoints hold is what it was made with."""
    before = [group[key] for group in groups]
    for group, value in zip(groups, values, strict=True):
        group[key] = value
    try:
        yield
    finally:
        for group, value in zip(groups, before, strict=True):
            group[key] = value


def parameters_of(optimiser: Optimizer) -> list[nn.Parameter]:
    """All of its groups'."""
    return [each for group in optimiser.param_groups for each in group["params"]]
