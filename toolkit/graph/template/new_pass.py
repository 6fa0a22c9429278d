"""A graph pass: two negations in a row are none."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from toolkit.graph.edits import Rewiring, graph_and_inner, is_standard
from toolkit.graph.graph_pass import Change, GraphPass, NearMiss, Outcome
from toolkit.hookspecs import hookimpl


def apply(graph: gs.Graph) -> Outcome:
    """Let what uses the second negation use what the first one negates."""
    changes, near_misses = [], []
    for part in graph_and_inner(graph):
        rewiring = Rewiring(part)
        for node in part.nodes:
            first = maker(node.inputs[0]) if is_standard(node, "Neg") else None
            if first is None or not is_standard(first, "Neg"):
                continue
            if rewiring.replace(node.outputs[0], first.inputs[0]):
                changes.append(Change(node.name, f"undoes {first.name!r}"))
            else:
                near_misses.append(NearMiss(node.name, "it makes an output of what no node of this graph makes"))
    return Outcome(tuple(changes), tuple(near_misses))


def maker(tensor: gs.Tensor) -> gs.Node | None:
    """The node that makes a tensor; none makes inputs and constants."""
    return tensor.inputs[0] if tensor.inputs else None


NEW_PASS = GraphPass(
    name="new-pass",
    reason="A number negated twice is the number.",
    apply=apply,
)


@hookimpl
def uniad_graph_passes() -> Sequence[GraphPass]:
    """Offers the pass to the toolkit."""
    return (NEW_PASS,)
