"""Removal of nodes whose results nobody uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.graph.graph_pass import Change, GraphPass, Outcome
from toolkit.graph.provenance import every_node
from toolkit.graph.unused import remove_unused

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def apply(graph: gs.Graph) -> Outcome:
    """Remove nodes that lead to no output."""
    before = list(every_node(graph))
    remove_unused(graph)
    kept = {id(node) for node in every_node(graph)}
    return Outcome(tuple(Change(node.name, f"{node.op} removed") for node in before if id(node) not in kept))


REMOVE_DEAD_NODES = GraphPass("remove-dead-nodes", "Exporters leave nodes behind whose results nothing uses.", apply)
