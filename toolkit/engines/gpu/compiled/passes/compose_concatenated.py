"""Linear layers that are concatenated for another linear layer become part of it."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.graph_edit import (
    Aten,
    add_constant,
    calls,
    constant_of,
    finish,
    is_call,
    linear_parameters,
    replace,
    shape_of,
)


def compose_concatenated(gm: GraphModule) -> int:
    """Rewrite linear(cat(linear(a), b)) as linear(cat(a, b)), and drop zeros; returns the number of parts rewritten.

    A part is left where this would multiply more. Weights are multiplied in float64 and rounded once.
    """
    return finish(gm, sum(_compose(gm, node) for node in calls(gm, Aten.linear.default)))


def _compose(gm: GraphModule, outer: Node) -> int:
    parts, parameters = _concatenated(outer), linear_parameters(gm, outer)
    if not parts or parameters is None:
        return 0
    weight, shift = parameters[0].double(), parameters[1].double()
    sources, blocks = list[Node](), list[torch.Tensor]()
    rewrites = 0
    for part, block in zip(parts, weight.split([shape_of(part)[-1] for part in parts], 1), strict=True):
        constant = constant_of(gm, part)
        if constant is not None and not constant.any():
            rewrites += 1
            continue
        inner = linear_parameters(gm, part) if len(part.users) == 1 else None
        if inner is None or block.shape[0] * inner[0].shape[1] > block.numel() + inner[0].numel():
            sources.append(part)
            blocks.append(block)
            continue
        assert isinstance(part.args[0], Node)
        sources.append(part.args[0])
        blocks.append(block @ inner[0].double())
        shift = shift + block @ inner[1].double()
        rewrites += 1
    if rewrites and sources:
        with gm.graph.inserting_before(outer):
            constants = [add_constant(gm, tensor.to(parameters[0].dtype)) for tensor in (torch.cat(blocks, 1), shift)]
            source = sources[0] if len(sources) == 1 else gm.graph.call_function(Aten.cat.default, (sources, -1))
            new = gm.graph.call_function(Aten.linear.default, (source, *constants))
        replace(outer, new)
        gm.graph.eliminate_dead_code()
    return rewrites if sources else 0


def _concatenated(outer: Node) -> list[Node]:
    """The tensors whose concatenation along the last axis `outer` alone reads; else none."""
    cat = outer.args[0]
    if not is_call(cat, Aten.cat.default) or not isinstance(cat, Node) or len(cat.users) > 1:
        return []
    axis = cat.args[1] if len(cat.args) > 1 else 0
    parts = cat.args[0]
    if axis not in (-1, len(shape_of(cat)) - 1) or not isinstance(parts, list | tuple):
        return []
    return [part for part in parts if isinstance(part, Node)]
