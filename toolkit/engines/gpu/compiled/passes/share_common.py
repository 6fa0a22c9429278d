"""Equal calls on equal inputs are made once."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.graph_edit import finish


def share_common(gm: GraphModule) -> int:
    """Let the first of several equal, deterministic calls serve all; returns the number of calls removed."""
    first: dict[tuple[Any, ...], Node] = {}
    shared = 0
    for node in list(gm.graph.nodes):
        if node.op not in ("call_function", "get_attr") or _has_effects(node):
            continue
        # Literals of equal value and different type (1, 1.0, True) stand for different calls: repr tells them apart.
        same = first.setdefault((node.op, node.target, repr(node.args), repr(node.kwargs)), node)
        if same is not node:
            node.replace_all_uses_with(same)
            gm.graph.erase_node(node)
            shared += 1
    return finish(gm, shared)


def _has_effects(node: Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    schema = node.target._schema
    return schema.is_mutable or not schema.returns or torch.Tag.nondeterministic_seeded in node.target.tags
