"""Attention over a single key is its value: the softmax of one element is 1."""

from __future__ import annotations

from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, calls, finish, is_call, replace, shape_of


def drop_single_key_attention(gm: GraphModule) -> int:
    """Replace softmax(x [..., Q, 1]) @ v [..., 1, C] by v, repeated over the queries; returns their number.

    Query and key projections that served nothing else disappear with it.
    """
    rewrites = 0
    for node in calls(gm, Aten.matmul.default):
        weights, value = node.args
        if not (isinstance(value, Node) and is_call(weights, Aten.softmax.int) and _is_single(weights)):
            continue
        if shape_of(node) == shape_of(value):
            replace(node, value)
        else:
            with gm.graph.inserting_before(node):
                replace(node, gm.graph.call_function(Aten.expand.default, (value, list(shape_of(node)))))
        rewrites += 1
    return finish(gm, rewrites)


def _is_single(softmax: object) -> bool:
    assert isinstance(softmax, Node)
    shape = shape_of(softmax)
    axis = softmax.args[1]
    return isinstance(axis, int) and axis % len(shape) == len(shape) - 1 and shape[-1] == 1
