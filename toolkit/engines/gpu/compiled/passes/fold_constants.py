"""Compute once what depends on weights alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, add_constant, constant_of, finish, is_call, replace

FILLS = (
    Aten.zeros_like.default,
    Aten.ones_like.default,
    Aten.full_like.default,
    Aten.new_zeros.default,
    Aten.new_ones.default,
    Aten.new_full.default,
)
"""Calls that take no more than shape, dtype and device from their input."""
MAX_BYTES = 64 * 2**20
"""Largest result that is stored although its inputs are smaller."""


def fold_constants(gm: GraphModule) -> int:
    """Replace results of deterministic calls on parameters, buffers and literals by buffers; returns their number.

    Each is computed on the device of its inputs. Only what other calls still read is stored.
    """
    values: dict[Node, Any] = {}
    with torch.no_grad():
        for node in gm.graph.nodes:
            constant = constant_of(gm, node)
            if constant is not None:
                values[node] = constant
            elif is_call(node, *FILLS) and _foldable(node):
                like = node.args[0].meta["val"]
                values[node] = node.target(
                    torch.empty(like.shape, dtype=like.dtype, device=like.device), *node.args[1:], **node.kwargs
                )
            elif all(source in values for source in node.all_input_nodes) and _foldable(node):
                args, kwargs = map_arg((node.args, node.kwargs), lambda source: values[source])
                values[node] = node.target(*args, **kwargs)
    folded = 0
    for node in [n for n, value in values.items() if n.op == "call_function" and isinstance(value, Tensor)]:
        if any(user not in values for user in node.users):
            with gm.graph.inserting_before(node):
                stored = add_constant(gm, values[node])
            replace(node, stored)
            folded += 1
    return finish(gm, folded)


def _foldable(node: Node) -> bool:
    if node.op != "call_function":
        return False
    if isinstance(node.target, torch._ops.OpOverload):
        random = torch.Tag.nondeterministic_seeded in node.target.tags
        if random or node.target._schema.is_mutable or not node.target._schema.returns:
            return False
    inputs = max((_bytes(source.meta["val"]) for source in node.all_input_nodes), default=0)
    return _bytes(node.meta["val"]) <= max(MAX_BYTES, inputs)


def _bytes(value: object) -> int:
    """Size of a (fake) tensor, or of a list of them."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0
