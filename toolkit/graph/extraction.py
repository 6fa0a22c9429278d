"""The graph pass that cuts nodes out of a model, to report or examine them alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from toolkit.errors import InputError
from toolkit.graph.graph_pass import Change, GraphPass, Outcome
from toolkit.graph.order import needed_tensors
from toolkit.graph.precision.policy import matches

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def extraction(patterns: Sequence[str]) -> GraphPass:
    """The pass that keeps the nodes that patterns match, by their name, op type or submodule.

    It raises InputError if one matches no node of the outermost graph, or if the type of what they need is not known.
    """
    return GraphPass(
        name="extract",
        reason="A few nodes show a fault as well as the whole model, and can be given to others.",
        apply=lambda graph: cut_out(graph, patterns),
        default=False,
        tolerance=math.inf,
    )


def cut_out(graph: gs.Graph, patterns: Sequence[str]) -> Outcome:
    """Make inputs of what the chosen nodes need of others, and outputs of what others need of them, or nobody."""
    for pattern in patterns:
        if not any(matches(pattern, node) for node in graph.nodes):
            raise InputError(f"{pattern!r} is to be extracted, but no node, op type or submodule matches it")
    chosen = [node for node in graph.nodes if any(matches(pattern, node) for pattern in patterns)]
    known = {id(node) for node in chosen}
    inside = needed_by(chosen)
    outside = needed_by(node for node in graph.nodes if id(node) not in known)
    outside |= {id(tensor): tensor for tensor in graph.outputs}
    made = {id(tensor): tensor for node in chosen for tensor in node.outputs if not tensor.is_empty()}
    graph.inputs = [tensor for place, tensor in inside.items() if place not in made]
    graph.outputs = [tensor for place, tensor in made.items() if place in outside or place not in inside]
    for tensor in graph.inputs:
        if tensor.dtype is None:
            raise InputError(
                f"what makes {tensor.name!r} must be extracted too, for the type of this input is not known"
            )
    kept = f"{len(chosen)} of {len(graph.nodes)} nodes kept"
    return Outcome((Change(graph.name, f"{kept}, {len(graph.inputs)} inputs, {len(graph.outputs)} outputs"),))


def needed_by(nodes: Iterable[gs.Node]) -> dict[int, gs.Tensor]:
    """The tensors that nodes need, constants aside; of inner graphs what comes from outside. The keys are ids."""
    import onnx_graphsurgeon as gs

    tensors: dict[int, gs.Tensor] = {}
    for node in nodes:
        inner = node.subgraphs(recursive=True)
        own = {id(t) for part in inner for t in (*part.inputs, *(t for n in part.nodes for t in n.outputs))}
        for tensor in needed_tensors(node):
            if id(tensor) not in own and isinstance(tensor, gs.Variable) and not tensor.is_empty():
                tensors[id(tensor)] = tensor
    return tensors
