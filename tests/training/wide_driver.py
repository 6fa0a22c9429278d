"""A plugin with the driver of `driver.py` in a network that can be quantized: a convolution and a linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from tests.training.driver import DRIVER, FACTS, Driver, uniad_metrics
from toolkit.config.model import ModelConfig
from toolkit.hookspecs import hookimpl
from toolkit.specs import Submodule

__all__ = ["uniad_metrics", "uniad_submodules"]
WIDTH = 32


class WideDriver(Driver):
    """The same of what a convolution sees. The last layer is narrow, and never quantized."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.driver = nn.Linear(WIDTH, 2)
        self.eyes = nn.Conv2d(3, WIDTH, 7, 5)
        self.mind = nn.Linear(FACTS + WIDTH, WIDTH)

    def forward(self, image: Tensor, can_bus: Tensor) -> Tensor:
        seen = torch.relu(self.eyes(image)).mean((0, 2, 3))
        thought = torch.relu(self.mind(torch.cat((can_bus / 1000, seen))[None]))
        driven: Tensor = self.driver(self.dropout(thought))[0]
        return driven


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """The driver."""
    return (replace(DRIVER, checkpoint_prefixes=(*DRIVER.checkpoint_prefixes, "eyes.", "mind."), build=WideDriver),)
