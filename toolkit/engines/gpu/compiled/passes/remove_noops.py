"""Remove calls that change nothing at fixed shapes in inference."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, calls, finish, replace, shape_of

SAME_VALUE = (
    Aten.lift_fresh_copy.default,
    Aten.detach.default,
    Aten.detach_.default,
    Aten.alias.default,
    Aten.clone.default,
    Aten.contiguous.default,
)
"""Calls whose result equals their input, in values if not in memory."""
SAME_IF_UNCHANGED = (
    Aten.to.dtype,
    Aten.expand.default,
    Aten.view.default,
    Aten.reshape.default,
    Aten.flatten.using_ints,
)
"""Calls whose result equals their input where shape and dtype stay."""


def remove_noops(gm: GraphModule) -> int:
    """Remove copies, detaching, dropout and assertions; make every view a reshape. Returns the number removed.

    A view asks for memory that a later pass may no longer provide; a reshape of the same tensor costs the same.
    Nothing in an exported inference graph writes into a tensor (`detach_` aside), so that a copy serves nobody.
    """
    removed = 0
    for node in calls(gm, Aten._assert_tensor_metadata.default):
        gm.graph.erase_node(node)
        removed += 1
    for node in calls(gm, Aten.dropout.default, *SAME_VALUE, *SAME_IF_UNCHANGED):
        source = node.args[0]
        assert isinstance(source, Node)
        if node.target not in SAME_VALUE and not _unchanged(node, source):
            continue
        replace(node, source)
        removed += 1
    views = calls(gm, Aten.view.default)
    for node in views:
        node.target = Aten.reshape.default
    return finish(gm, removed + len(views))


def _unchanged(node: Node, source: Node) -> bool:
    if node.target is Aten.dropout.default:
        return node.args[2] is False
    dtypes: list[torch.dtype] = [n.meta["val"].dtype for n in (node, source)]
    return dtypes[0] == dtypes[1] and shape_of(node) == shape_of(source)
