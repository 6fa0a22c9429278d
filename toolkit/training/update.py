"""How weights follow their gradients: these are clipped, the optimiser steps, and they are gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from toolkit.training.flat import FlatTensors
from toolkit.training.graphs import Capture, Recorded, copy_all
from toolkit.training.optimiser import clip_gradients


class Update(Protocol):
    """Makes a step of an optimiser from the gradients that are there, after which they are gone."""

    averages: bool
    """Whether it averages gradients over the processes that train together, or finds them averaged."""

    def __call__(self) -> Tensor:
        """The norm of all gradients before they were clipped, a scalar on their device."""
        ...


MakeUpdate = Callable[[Optimizer, float], Update]
"""Of an optimiser, whose learning rates may change from step to step, and the norm to which gradients are clipped."""


class PlainUpdate:
    """Operator by operator."""

    averages = False

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

    The optimiser is a fused one of torch's, such as AdamW. It reads its learning rates from memory, rounded to FP32,
    and gradients from one piece of memory, which processes average at once: torch by itself averages them with several
    launches for each parameter.
    """

    averages = True

    def __init__(self, optimiser: Optimizer, most: float, capture: Capture) -> None:
        self._optimiser, self._most, self._capture = optimiser, most, capture
        self._parameters = parameters_of(optimiser)
        self._gradients = FlatTensors([each.detach() for each in self._parameters])
        self._rates = [group["params"][0].new_zeros((), dtype=torch.float32) for group in optimiser.param_groups]
        self._recorded: dict[tuple[int, ...], Recorded] = {}

    @torch.no_grad()
    def __call__(self) -> Tensor:
        concerned = self._collect()
        for rate, group in zip(self._rates, self._optimiser.param_groups, strict=True):
            rate.fill_(group["lr"])
        if concerned in self._recorded:
            recorded = self._recorded[concerned]
            recorded.replay()
            norm = recorded.outputs[0]
        else:
            norm = self._first(concerned)
        assert norm is not None
        for number in concerned:
            self._parameters[number].grad = None
        return norm

    @property
    def count(self) -> int:
        """How many sets of parameters have been recorded."""
        return len(self._recorded)

    def _collect(self) -> tuple[int, ...]:
        """Put gradients, averages if there are several processes, where graphs read them; of which parameters."""
        found = [each.grad for each in self._parameters]
        places = self._gradients.tensors
        pairs = [(place, x) for place, x in zip(places, found, strict=True) if x is not None]
        copy_all([place for place, _ in pairs], [x for _, x in pairs])
        anywhere = in_any_process([x is not None for x in found], places[0].device)
        for place, x, concerned in zip(places, found, anywhere, strict=True):
            if concerned and x is None:
                place.zero_()
        if trained_together():
            for memory in self._gradients.memory:
                distributed.all_reduce(memory)
                memory /= distributed.get_world_size()
        return tuple(number for number, concerned in enumerate(anywhere) if concerned)

    def _first(self, concerned: tuple[int, ...]) -> Tensor:
        """Make this step by what the next ones replay; that loads its kernels, and makes the optimiser's state."""
        groups = self._optimiser.param_groups
        with set_in(groups, "lr", self._rates):
            (norm,) = self._run(concerned)
            with set_in(groups, "capturable", [True] * len(groups)):
                self._recorded[concerned] = self._capture(partial(self._run, concerned))
        return norm

    def _run(self, concerned: tuple[int, ...]) -> tuple[Tensor]:
        parameters = [self._parameters[number] for number in concerned]
        for number, each in zip(concerned, parameters, strict=True):
            each.grad = self._gradients.tensors[number]
        norm = clip_gradients(parameters, self._most)
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


def in_any_process(has: Sequence[bool], device: torch.device) -> list[bool]:
    """Which entries are true in any of the processes that train together; several of them wait for their GPUs."""
    if not trained_together():
        return list(has)
    mask = torch.tensor(has, dtype=torch.int32).to(device)
    distributed.all_reduce(mask, distributed.ReduceOp.MAX)
    return [bool(each) for each in mask.tolist()]


def trained_together() -> bool:
    """Whether several processes train."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
