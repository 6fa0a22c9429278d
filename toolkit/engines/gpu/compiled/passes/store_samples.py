"""Samples that products read alone are stored in the type of their factors."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.operators import REDUCED
from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, calls, finish, is_call
from toolkit.precision import Precision

OURS = torch.ops.uniad_gpu


def store_samples(gm: GraphModule, precision: Precision) -> int:
    """Let samples for deformable convolutions be FP16 or BF16 where products are; returns their number.

    By now, these products are calls of our operators.
    """
    if precision not in REDUCED:
        return 0
    found = [node for node in calls(gm, OURS.sample_taps.default) if _serves_products(node)]
    for node in found:
        node.args = (*node.args[:-1], REDUCED[precision])
    return finish(gm, len(found))


def _serves_products(node: Node) -> bool:
    """Whether nothing but convolutions reads `node`, or what lays it out, or rounds it, for them."""
    return all(
        is_call(user, OURS.conv2d.default, OURS.conv2d_relu.default)
        or (is_call(user, Aten.contiguous.default, Aten.to.dtype) and _serves_products(user))
        for user in node.users
    )
