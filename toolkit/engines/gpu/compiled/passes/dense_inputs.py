"""Custom ops get their inputs contiguous, so that the compiler writes them so instead of the op copying them."""

from __future__ import annotations

from torch.fx import GraphModule

from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, finish
from toolkit.ops.spec import DOMAIN


def make_inputs_dense(gm: GraphModule) -> int:
    """Lay out what the toolkit's custom ops read; returns the number of inputs that were not contiguous."""
    rewrites = 0
    for node in list(gm.graph.nodes):
        if node.op != "call_function" or getattr(node.target, "namespace", "") != DOMAIN:
            continue
        for source in node.all_input_nodes:
            if not source.meta["val"].is_contiguous():
                with gm.graph.inserting_before(node):
                    dense = gm.graph.call_function(Aten.contiguous.default, (source,))
                dense.meta["val"] = source.meta["val"].contiguous()
                node.replace_input_with(source, dense)
                rewrites += 1
    return finish(gm, rewrites)
