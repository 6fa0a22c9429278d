"""Products over a handful of terms as multiplications and a sum, which the compiler fuses with their neighbours."""

from __future__ import annotations

from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, calls, finish, is_call, replace, shape_of

MAX_TERMS = 8
"""Longest product that is cheaper without a kernel of its own."""
UNROLLED_TERMS = 7
"""Longest sum that torch.compile writes out (`torch._inductor.config.unroll_reductions_threshold`, exclusive)."""


def unroll_small_products(gm: GraphModule) -> int:
    """Replace linear layers and matrix products over at most MAX_TERMS terms; returns the number replaced.

    A matrix product of its own costs a kernel, and a copy of its inputs where these are permuted.
    """
    rewrites = 0
    for node in calls(gm, Aten.linear.default, Aten.matmul.default):
        left, right = node.args[:2]
        assert isinstance(left, Node)
        assert isinstance(right, Node)
        if shape_of(left)[-1] > MAX_TERMS or len(shape_of(left)) < 2 or len(shape_of(right)) < 2:
            continue
        if not left.meta["val"].is_floating_point():
            continue  # a sum of integers has another type
        if is_call(left, Aten.softmax.int):
            continue  # attention, which has passes of its own
        with gm.graph.inserting_before(node):
            replace(node, _unrolled(gm, node, left, right))
        rewrites += 1
    return finish(gm, rewrites)


def _unrolled(gm: GraphModule, node: Node, left: Node, right: Node) -> Node:
    """left [..., M, K] and right [..., N, K] (a layer's weight) or [..., K, N]: [..., M, 1, K] * [..., 1, N, K]."""
    call = gm.graph.call_function
    if node.target is Aten.matmul.default:
        right = call(Aten.transpose.int, (right, -1, -2))
    rows, columns = call(Aten.unsqueeze.default, (left, -2)), call(Aten.unsqueeze.default, (right, -3))
    total = call(Aten.mul.Tensor, (rows, columns))
    terms = shape_of(left)[-1]
    if terms > UNROLLED_TERMS and terms % 2 == 0:
        total = call(Aten.sum.dim_IntList, (call(Aten.unflatten.int, (total, -1, [2, terms // 2])), [-1]))
    total = call(Aten.sum.dim_IntList, (total, [-1]))
    bias = node.args[2] if len(node.args) > 2 else None
    return total if bias is None else call(Aten.add.Tensor, (total, bias))
