"""A linear layer cut into chunks becomes a layer for each chunk that is read."""

from __future__ import annotations

from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.graph_edit import (
    Aten,
    add_constant,
    calls,
    constant_of,
    finish,
    is_call,
    replace,
)


def split_linears(gm: GraphModule) -> int:
    """Replace chunk(linear(x), n, -1)[i] by a linear layer of its own; returns the number of chunks replaced.

    Chunks that nothing reads are thereby not computed; `merge_linears` joins the others again.
    """
    return finish(gm, sum(_split(gm, node) for node in calls(gm, Aten.chunk.default)))


def _split(gm: GraphModule, chunk: Node) -> int:
    layer = chunk.args[0]
    if not is_call(layer, Aten.linear.default) or not isinstance(layer, Node) or len(layer.users) > 1:
        return 0
    if len(chunk.args) < 3 or chunk.args[2] not in (-1, layer.meta["val"].dim() - 1):
        return 0
    parameters = [constant_of(gm, value) for value in layer.args[1:] if value is not None]
    parts = [part for part in chunk.users if part.users]
    for part in parts:
        with gm.graph.inserting_before(part):
            # Chunks of a weight's rows are the chunks of the layer's outputs.
            rows = [p.chunk(chunk.args[1])[part.args[1]] for p in parameters if p is not None]  # type: ignore[arg-type, index]
            if len(rows) < len(parameters):
                return 0
            constants = [add_constant(gm, tensor) for tensor in rows]
            replace(part, gm.graph.call_function(Aten.linear.default, (layer.args[0], *constants)))
    return len(parts)
