"""What a module computes within `with` blocks that change nothing in inference, as part of its graph."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

WITH_GRADIENTS = torch.ops.higher_order.wrap_with_set_grad_enabled
"""Called with whether, a graph, and its inputs."""
WITH_AUTOCAST = torch.ops.higher_order.wrap_with_autocast
"""Called with a device, a type, whether, whether casts are kept, a graph, and its inputs."""


def inline_scopes(gm: GraphModule) -> int:
    """Make blocks of `torch.enable_grad`, and of autocast that is off, part of the graph around them.

    Export makes a graph of its own of each. Sessions record no gradients, and autocast is off around them. Blocks in
    which it is on stay. Returns how many became part of the graph.
    """
    inlined = 0
    for node in list(gm.graph.nodes):
        if node.target is WITH_GRADIENTS:
            inlined += _inline(gm, node, node.args[1], node.args[2:])
        elif node.target is WITH_AUTOCAST and not node.args[2]:
            inlined += _inline(gm, node, node.args[4], node.args[5:])
    if inlined:
        gm.graph.lint()
        gm.recompile()
    return inlined


def _inline(gm: GraphModule, node: Node, block: Any, inputs: Sequence[Any]) -> int:
    inner = getattr(gm, block.target)
    inlined = inline_scopes(inner)
    placeholders = [n for n in inner.graph.nodes if n.op == "placeholder"]
    if any(n.op == "get_attr" for n in inner.graph.nodes):
        return 0  # a block in it stays, which has a graph of its own
    with gm.graph.inserting_before(node):
        outputs: Any = gm.graph.graph_copy(inner.graph, dict(zip(placeholders, inputs, strict=True)))
    for user in list(node.users):
        assert user.target is operator.getitem
        user.replace_all_uses_with(outputs[user.args[1]])
        gm.graph.erase_node(user)
    gm.graph.erase_node(node)
    if not block.users:
        gm.graph.erase_node(block)
    return inlined + 1
