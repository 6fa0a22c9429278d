"""Products of two computed matrices become calls of the operator that has a kernel of its own."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, calls, finish, replace, shape_of
from toolkit.engines.gpu.compiled.passes.use_linear import CHANNELS, OURS
from toolkit.precision import Precision

FEWEST = 16
"""Rows and columns of a result that are worth a tensor core."""


def use_matmul(gm: GraphModule, precision: Precision) -> int:
    """Replace matrix products that attention left over, batched or not; returns the number replaced.

    Those of few rows or columns stay: they are little more than products with a vector.
    """
    rewrites = 0
    for node in calls(gm, Aten.matmul.default):
        if _fits(node):
            with gm.graph.inserting_before(node):
                replace(node, _call(gm, node, precision))
            rewrites += 1
    return finish(gm, rewrites)


def _fits(node: Node) -> bool:
    a, b = node.args
    if not isinstance(a, Node) or not isinstance(b, Node) or "val" not in a.meta or "val" not in b.meta:
        return False
    shapes = shape_of(a), shape_of(b)
    if any(factor.meta["val"].dtype != torch.float32 for factor in (a, b)):
        return False
    alike = len(shapes[0]) == len(shapes[1]) in (2, 3) and shapes[0][:-2] == shapes[1][:-2]
    return alike and shapes[0][-1] % CHANNELS == 0 and min(shapes[0][-2], shapes[1][-1]) >= FEWEST


def _call(gm: GraphModule, node: Node, precision: Precision) -> Node:
    call = gm.graph.call_function
    batched = len(shape_of(node)) == 3
    factors = [factor if batched else call(Aten.unsqueeze.default, (factor, 0)) for factor in node.args]
    out = call(OURS.matmul.default, (*factors, str(precision)))
    return out if batched else call(Aten.squeeze.dim, (out, 0))
