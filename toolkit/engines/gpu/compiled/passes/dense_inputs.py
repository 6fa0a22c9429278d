"""Custom ops get their inputs contiguous, so that the compiler writes them so instead of the op copying them."""

from __future__ import annotations

from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, finish, is_call, shape_of
from toolkit.ops.spec import DOMAIN


def make_inputs_dense(gm: GraphModule) -> int:
    """Lay out what the toolkit's custom ops read; returns the number of inputs that were not contiguous.

    Of an input that is one and the same for the whole batch, that one is laid out: an op for which this is not enough
    makes its copies itself.
    """
    rewrites = 0
    for node in list(gm.graph.nodes):
        if node.op != "call_function" or getattr(node.target, "namespace", "") != DOMAIN:
            continue
        for source in node.all_input_nodes:
            repeated = _repeated(source)
            if repeated is None:
                rewrites += _make_dense(gm, node, source)
            elif _make_dense(gm, source, repeated):
                source.meta["val"] = source.args[0].meta["val"].expand(source.meta["val"].shape)
                rewrites += 1
    return finish(gm, rewrites)


def _make_dense(gm: GraphModule, node: Node, source: Node) -> bool:
    """Let `node` read `source` contiguous; False if it is so already."""
    if source.meta["val"].is_contiguous():
        return False
    with gm.graph.inserting_before(node):
        dense = gm.graph.call_function(Aten.contiguous.default, (source,))
    dense.meta["val"] = source.meta["val"].contiguous()
    node.replace_input_with(source, dense)
    return True


def _repeated(source: Node) -> Node | None:
    """What `source` repeats along its first axis and no other; None if it is no such repetition."""
    if not is_call(source, Aten.expand.default):
        return None
    repeated = source.args[0]
    assert isinstance(repeated, Node)
    (batch, *shape), given = shape_of(source), list(shape_of(repeated))
    return repeated if batch > 1 and given in (shape, [1, *shape]) else None
