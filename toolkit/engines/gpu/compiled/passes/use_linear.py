"""Linear layers become calls of the operator that has a kernel of its own."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.kernels.tiles import Tile, product_tile, short_tile
from toolkit.engines.gpu.compiled.operators import REDUCED, fits, weight_parts
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
from toolkit.precision import Precision

OURS = torch.ops.uniad_gpu
LARGE = 2**27
"""Multiplications from which on a product of FP16 is faster by cuBLAS than by our kernel."""
CHANNELS = 32
"""The kernel sums over multiples of this many elements that lie together."""


def use_linear(gm: GraphModule, precision: Precision) -> int:
    """Replace linear layers, each with the ReLU that alone reads it; returns the number replaced.

    Layers of a single row stay: a product with a vector is a library's, or fused with its neighbours. So do those whose
    weights are not FP32, or too large for the parts that products take of them.
    """
    rewrites = 0
    for node in calls(gm, Aten.linear.default):
        weight = constant_of(gm, node.args[1])
        rows = prod(shape_of(node)[:-1])
        if weight is None or weight.dtype != torch.float32 or weight.shape[1] % CHANNELS or rows == 1:
            continue
        if not fits(weight, precision):
            continue
        outputs, inputs = weight.shape
        last = only_relu(node)
        parts = weight_parts(weight.contiguous(), precision)
        bias = node.args[2] if len(node.args) > 2 else None
        with gm.graph.inserting_before(node):
            known = None if bias is None else constant_of(gm, bias)
            if precision in REDUCED and known is not None and rows * outputs * inputs >= LARGE:
                new = _by_library(gm, node, parts[0], known, relu=last is not node)
            else:
                tile = short_tile(rows, parts) or product_tile(rows, parts)
                arrived = add_counters(gm, tile, tile.programs(rows, outputs), weight.device)
                args = (node.args[0], add_constant(gm, parts), bias, arrived, last is not node)
                new = gm.graph.call_function(OURS.linear.default, args)
        replace_through(last, node, new)
        rewrites += 1
    return finish(gm, rewrites)


def _by_library(gm: GraphModule, layer: Node, weight: Tensor, bias: Tensor, *, relu: bool) -> Node:
    """A call of cuBLAS's in the type of the weight; casts are left to the compiler, which fuses them."""
    rows = gm.graph.call_function(Aten.to.dtype, (layer.args[0], weight.dtype))
    constants = add_constant(gm, weight), add_constant(gm, bias.to(weight.dtype))
    out = gm.graph.call_function(OURS.product.default, (rows, *constants, relu))
    return gm.graph.call_function(Aten.to.dtype, (out, torch.float32))


def add_counters(gm: GraphModule, tile: Tile, blocks: int, device: torch.device) -> Node:
    """The operators' `arrived`: empty unless programs share a sum."""
    return add_constant(gm, torch.zeros(blocks if tile.splits > 1 else 0, dtype=torch.int32, device=device))


def only_relu(node: Node) -> Node:
    """The ReLU that alone reads `node`, or the node itself."""
    users = list(node.users)
    return users[0] if len(users) == 1 and is_call(users[0], Aten.relu.default, Aten.relu_.default) else node


def replace_through(last: Node, node: Node, new: Node) -> None:
    """Let `new` serve the users of `last`, which is `node` or alone reads it."""
    new.meta["val"] = last.meta["val"]
    replace(last, new)
    if last is not node:
        node.graph.erase_node(node)
