"""The counters of kernels whose programs share a sum: memory that two graphs must not use at the same time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.fx import GraphModule

ARGUMENT = "arrived"
"""What the operators that take counters call them (`toolkit.engines.gpu.compiled.operators`)."""


def renew_counters(module: GraphModule) -> list[Tensor]:
    """Give a rewritten part new counters; returns those that it had, which graphs captured until now go on using."""
    before = []
    for name in sorted(set(_counter_names(module))):
        counters = module.get_buffer(name)
        if counters.numel():
            before.append(counters)
            with torch.inference_mode(False):  # of the kind that compiled code was made for
                setattr(module, name, torch.zeros_like(counters))
    return before


def _counter_names(module: GraphModule) -> Iterator[str]:
    """Of the buffers that operators take as counters."""
    for node in module.graph.nodes:
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            for argument, given in zip(node.target._schema.arguments, node.args, strict=False):
                if argument.name == ARGUMENT:
                    yield str(given.target)
