"""A single query attends to a long memory without projecting it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.attention_pattern import AttentionPattern, match_attention
from toolkit.engines.gpu.compiled.passes.graph_edit import (
    Aten,
    add_constant,
    calls,
    constant_of,
    finish,
    is_call,
    replace,
    shape_of,
)


@dataclass(frozen=True)
class Projection:
    """A linear layer split into heads: weight [heads, width, inputs], bias [heads, width]; FP64."""

    source: Node
    weight: Tensor
    bias: Tensor


def absorb_projections(gm: GraphModule) -> int:
    """Move the projections of keys and values to where there is one row; returns the number of attentions rewritten.

    q . (W_k x + b_k) = (W_k^T q) . x + constant, and softmax ignores the constant: W_k goes into the projection of
    the query. The weights sum to 1, so that W_v and b_v go into the projection of the output. Both are computed in
    float64 and rounded once.
    """
    return finish(gm, sum(_absorb(gm, node) for node in calls(gm, Aten.matmul.default)))


def _absorb(gm: GraphModule, node: Node) -> bool:
    attention = match_attention(node)
    if attention is None or attention.valid is not None or shape_of(attention.query)[:-1] != (shape_of(node)[0], 1):
        return False
    key, value = _projection(gm, attention.key), _projection(gm, attention.value)
    out = _output_layer(node)
    parameters = None if out is None else [constant_of(gm, parameter) for parameter in out.args[1:]]
    if key is None or value is None or out is None or parameters is None or len(parameters) != 2:
        return False
    weight, bias = parameters
    if weight is None or bias is None or shape_of(key.source)[0] <= key.weight.shape[2]:
        return False
    with gm.graph.inserting_before(node):
        query = _key_space_query(gm, attention, key)
        if query is None:
            return False
        logits = gm.graph.call_function(
            Aten.matmul.default, (query, gm.graph.call_function(Aten.transpose.int, (key.source, 0, 1)))
        )
        weights = gm.graph.call_function(Aten.softmax.int, (logits, -1))
        summed = gm.graph.call_function(Aten.matmul.default, (weights, value.source))
        row = gm.graph.call_function(Aten.reshape.default, (summed, [1, -1]))
        heads_out = weight.double().unflatten(1, value.bias.shape)
        composed = torch.einsum("ohc,hci->ohi", heads_out, value.weight).flatten(1)
        shift = bias.double() + weight.double() @ value.bias.flatten()
        new = _linear(gm, row, composed, shift, weight.dtype)
    replace(out, new)
    gm.graph.eliminate_dead_code()
    return True


def _key_space_query(gm: GraphModule, attention: AttentionPattern, key: Projection) -> Node | None:
    """[heads, inputs]: the scaled query, times each head's key projection; None where the query is no projection."""
    constant = constant_of(gm, attention.query)
    if constant is not None:
        moved = attention.scale * torch.einsum("hc,hci->hi", constant[:, 0].double(), key.weight)
        return add_constant(gm, moved.to(constant.dtype))
    query = _projection(gm, attention.query)
    if query is None:
        return None
    weight = attention.scale * torch.einsum("hci,hcj->hij", key.weight, query.weight)
    bias = attention.scale * torch.einsum("hci,hc->hi", key.weight, query.bias)
    dtype: torch.dtype = attention.query.meta["val"].dtype
    row = _linear(gm, query.source, weight.flatten(0, 1), bias.flatten(), dtype)
    return gm.graph.call_function(Aten.reshape.default, (row, list(bias.shape)))


def _linear(gm: GraphModule, source: Node, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Node:
    constants = [add_constant(gm, tensor.to(dtype)) for tensor in (weight, bias)]
    return gm.graph.call_function(Aten.linear.default, (source, *constants))


def _projection(gm: GraphModule, heads_first: Node) -> Projection | None:
    """The layer over [N, inputs] that, split into heads, gives `heads_first` [heads, N, width]."""
    if not is_call(heads_first, Aten.transpose.int) or {axis % 3 for axis in heads_first.args[1:]} != {0, 1}:  # type: ignore[operator]
        return None
    split = heads_first.args[0]
    if not is_call(split, Aten.unflatten.int) or not isinstance(split, Node):
        return None
    layer = split.args[0]
    if not is_call(layer, Aten.linear.default) or not isinstance(layer, Node) or len(layer.args) < 3:
        return None
    source, *parameters = layer.args
    weight, bias = (constant_of(gm, parameter) for parameter in parameters)
    if weight is None or bias is None or not isinstance(source, Node) or len(shape_of(source)) != 2:
        return None
    heads, _, width = shape_of(heads_first)
    return Projection(source, weight.double().unflatten(0, (heads, width)), bias.double().unflatten(0, (heads, width)))


def _output_layer(node: Node) -> Node | None:
    """The linear layer that alone reads `node` [heads, 1, width], its heads merged."""
    for target in (Aten.transpose.int, Aten.flatten.using_ints, Aten.linear.default):
        users = list(node.users)
        if len(users) != 1 or not is_call(users[0], target):
            return None
        node = users[0]
    return node if shape_of(node)[:-1] == (1,) else None
