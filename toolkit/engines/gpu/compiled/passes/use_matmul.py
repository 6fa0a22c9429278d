"""Products of two computed matrices become calls of the operator that has a kernel of its own."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.graph_edit import (
    Aten,
    add_constant,
    calls,
    constant_of,
    finish,
    replace,
    shape_of,
)
from toolkit.engines.gpu.compiled.passes.use_linear import CHANNELS, OURS
from toolkit.precision import Precision

FEWEST = 16
"""Rows and columns of a result that are worth a tensor core."""
LONG = 8192
"""Columns, or elements of a sum, of a product of fewer rows that fill a GPU. Reading the other factor takes all of its
time, so that such a product is FP32 in every precision."""
SHARE = 512
"""The most elements of a long sum that are added by one program."""


def use_matmul(gm: GraphModule, precision: Precision) -> int:
    """Replace matrix products that attention left over, batched or not; returns the number replaced.

    Those of few rows or columns stay, unless they are long: they are little more than products with a vector.
    """
    rewrites = 0
    for node in calls(gm, Aten.matmul.default):
        factors = _factors(node)
        if factors is None:
            continue
        (*batch, rows, length), columns = shape_of(factors[0]), shape_of(node)[-1]
        with gm.graph.inserting_before(node):
            if min(rows, columns) >= FEWEST:
                replace(node, _call(gm, factors, precision))
            elif rows < FEWEST and columns >= LONG:
                replace(node, _call(gm, factors, Precision.FP32))
            elif rows < FEWEST <= columns and length >= LONG and not batch:
                replace(node, _shared(gm, factors))
            else:
                continue
        rewrites += 1
    return finish(gm, rewrites)


def _factors(node: Node) -> tuple[Node, Node] | None:
    """The factors, if the operator takes them."""
    a, b = node.args
    if not isinstance(a, Node) or not isinstance(b, Node) or "val" not in a.meta or "val" not in b.meta:
        return None
    shapes = shape_of(a), shape_of(b)
    if any(factor.meta["val"].dtype != torch.float32 for factor in (a, b)):
        return None
    alike = len(shapes[0]) == len(shapes[1]) in (2, 3) and shapes[0][:-2] == shapes[1][:-2]
    return (a, b) if alike and shapes[0][-1] % CHANNELS == 0 else None


def _call(gm: GraphModule, factors: tuple[Node, Node], precision: Precision) -> Node:
    call = gm.graph.call_function
    if len(shape_of(factors[0])) == 3:
        return call(OURS.matmul.default, (*factors, str(precision)))
    out = call(OURS.matmul.default, (*(_batch_of_one(gm, factor) for factor in factors), str(precision)))
    return call(Aten.squeeze.dim, (out, 0))


def _batch_of_one(gm: GraphModule, factor: Node) -> Node:
    constant = constant_of(gm, factor)
    if constant is not None:
        return add_constant(gm, constant[None])
    return gm.graph.call_function(Aten.unsqueeze.default, (factor, 0))


def _shared(gm: GraphModule, factors: tuple[Node, Node]) -> Node:
    """The product of two matrices as a batch of shorter ones, and their sum."""
    call = gm.graph.call_function
    (rows, length), columns = shape_of(factors[0]), shape_of(factors[1])[1]
    share = max(part for part in range(CHANNELS, SHARE + 1, CHANNELS) if length % part == 0)
    a = call(Aten.transpose.int, (call(Aten.reshape.default, (factors[0], [rows, -1, share])), 0, 1))
    b = call(Aten.reshape.default, (factors[1], [-1, share, columns]))
    return call(Aten.sum.dim_IntList, (call(OURS.matmul.default, (a, b, str(Precision.FP32))), [0]))
