"""Two linear layers in a row are one."""

from __future__ import annotations

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
)

RESHAPES = (
    Aten.reshape.default,
    Aten.flatten.using_ints,
    Aten.unflatten.int,
    Aten.unsqueeze.default,
    Aten.squeeze.dim,
    Aten.transpose.int,
    Aten.permute.default,
)
"""Calls that move no element, or may move none (a transpose of an axis of length 1)."""


def compose_linears(gm: GraphModule) -> int:
    """Replace linear(linear(x)) by one layer where that is no larger; returns the number replaced.

    Reshapes between the two may stand, where they keep the order of all elements and end in the first's shape. The
    product of the weights is computed in float64 and rounded once.
    """
    return finish(gm, sum(_compose(gm, node) for node in calls(gm, Aten.linear.default)))


def _compose(gm: GraphModule, outer: Node) -> bool:
    inner = _linear_before(outer)
    if inner is None:
        return False
    layers = [linear_parameters(gm, layer) for layer in (inner, outer)]
    if layers[0] is None or layers[1] is None:
        return False
    (weight, bias), (outer_weight, outer_bias) = layers[0], layers[1]
    if outer_weight.shape[0] * weight.shape[1] > outer_weight.numel() + weight.numel():
        return False
    product = outer_weight.double() @ weight.double()
    shift = outer_weight.double() @ bias.double() + outer_bias.double()
    with gm.graph.inserting_before(outer):
        constants = [add_constant(gm, tensor.to(weight.dtype)) for tensor in (product, shift)]
        new = gm.graph.call_function(Aten.linear.default, (inner.args[0], *constants))
    replace(outer, new)
    gm.graph.eliminate_dead_code()
    return True


def _linear_before(outer: Node) -> Node | None:
    """The linear layer that alone feeds `outer` and serves nothing else, through reshapes that keep all in place."""
    chain: list[Node] = []
    node = outer.args[0]
    while is_call(node, *RESHAPES) and isinstance(node, Node) and len(node.users) == 1:
        chain.append(node)
        node = node.args[0]
    if not is_call(node, Aten.linear.default) or not isinstance(node, Node) or len(node.users) > 1:
        return None
    moved = order = torch.arange(node.meta["val"].numel()).reshape(node.meta["val"].shape)
    for reshape in reversed(chain):
        moved = reshape.target(moved, *reshape.args[1:], **reshape.kwargs)  # type: ignore[operator]
    return node if torch.equal(moved, order) else None
