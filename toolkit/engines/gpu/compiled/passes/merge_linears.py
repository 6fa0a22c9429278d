"""Linear layers over the same tensor become one wider layer."""

from __future__ import annotations

from collections import defaultdict
from itertools import accumulate

import torch
from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.graph_edit import (
    Aten,
    add_constant,
    calls,
    finish,
    is_call,
    linear_parameters,
    replace,
    shape_of,
)

MAX_WIDTH = 2048
"""Most outputs of a merged layer: beyond, a product fills the GPU anyway."""
VIEWS = (
    Aten.reshape.default,
    Aten.flatten.using_ints,
    Aten.unflatten.int,
    Aten.unsqueeze.default,
    Aten.expand.default,
    Aten.squeeze.dim,
    Aten.transpose.int,
)


def merge_linears(gm: GraphModule) -> int:
    """Merge linear layers with the same input; returns how many layers became parts of a merged one.

    The parts are slices of the last axis, which are not contiguous: `remove_noops` has turned views into reshapes, and
    layers whose result goes to a kernel of our own, which would copy it, stay apart. So do layers that a ReLU alone
    reads, because the kernel of a product applies it.
    """
    groups: dict[Node, list[Node]] = defaultdict(list)
    for node in calls(gm, Aten.linear.default):
        source = node.args[0]
        if isinstance(source, Node) and linear_parameters(gm, node) is not None and not _stays_apart(node):
            groups[source].append(node)
    merged = 0
    for layers in groups.values():
        for part in _partition(layers):
            if len(part) > 1:
                _merge(gm, part)
                merged += len(part)
    return finish(gm, merged)


def _partition(layers: list[Node]) -> list[list[Node]]:
    """Split `layers` in order into runs of at most MAX_WIDTH outputs."""
    parts: list[list[Node]] = [[]]
    width = 0
    for layer in layers:
        outputs = shape_of(layer)[-1]
        if parts[-1] and width + outputs > MAX_WIDTH:
            parts.append([])
            width = 0
        parts[-1].append(layer)
        width += outputs
    return parts


def _merge(gm: GraphModule, layers: list[Node]) -> None:
    parameters = [found for layer in layers if (found := linear_parameters(gm, layer)) is not None]
    weights, biases = zip(*parameters, strict=True)
    ends = list(accumulate(weight.shape[0] for weight in weights))
    with gm.graph.inserting_before(layers[0]):
        constants = [add_constant(gm, torch.cat(tensors)) for tensors in (weights, biases)]
        wide = gm.graph.call_function(Aten.linear.default, (layers[0].args[0], *constants))
        slices = [
            gm.graph.call_function(Aten.slice.Tensor, (wide, -1, end - weight.shape[0], end))
            for end, weight in zip(ends, weights, strict=True)
        ]
    for layer, part in zip(layers, slices, strict=True):
        replace(layer, part)


def _stays_apart(node: Node) -> bool:
    return _is_read_densely(node) or all(is_call(user, Aten.relu.default) for user in node.users)


def _is_read_densely(node: Node) -> bool:
    """Whether an operator outside PyTorch reads `node`, or a view of it."""
    return any(
        _is_read_densely(user) if is_call(user, *VIEWS) else getattr(user.target, "namespace", "aten") != "aten"
        for user in node.users
    )
