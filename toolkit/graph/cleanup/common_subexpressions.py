"""Merging of nodes that compute the same."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from toolkit.graph.edits import Rewiring, constant, graph_and_inner, is_deterministic
from toolkit.graph.graph_pass import Change, GraphPass, NearMiss, Outcome
from toolkit.graph.unheld import unheld_attributes
from toolkit.ops.spec import DOMAIN

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def apply(graph: gs.Graph) -> Outcome:
    """Of the nodes with one operator, the same inputs and equal attributes, keep the first."""
    changes, near_misses = [], []
    for part in graph_and_inner(graph):
        rewiring = Rewiring(part)
        first: dict[Hashable, gs.Node] = {}
        for node in part.nodes:
            if not is_deterministic(node) and node.domain != DOMAIN:
                continue
            kept = first.setdefault(meaning(node), node)
            if kept is node:
                continue
            pairs = list(zip(node.outputs, kept.outputs, strict=True))
            if all(rewiring.replace(old, new) for old, new in pairs):
                changes.append(Change(node.name, f"is {kept.name!r}"))
            else:
                near_misses.append(NearMiss(node.name, f"is {kept.name!r}, but both are outputs of the model"))
    return Outcome(tuple(changes), tuple(near_misses))


def meaning(node: gs.Node) -> Hashable:
    """What two nodes share if they compute the same."""
    attributes = [(name, plain(value)) for name, value in node.attrs.items()]
    attributes += [(attribute.name, attribute.SerializeToString().hex()) for attribute in unheld_attributes(node)]
    inputs = tuple(id(tensor) if tensor.name else 0 for tensor in node.inputs)
    return node.domain or "", node.op, inputs, len(node.outputs), tuple(sorted(attributes))


def plain(value: object) -> str:
    """An attribute as text that tells different values apart."""
    import onnx_graphsurgeon as gs

    if isinstance(value, gs.Constant):
        array = constant(value)
        assert array is not None
        return f"{array.dtype}{array.shape}{array.tobytes().hex()}"
    return f"{type(value).__name__} {value!r}"


MERGE_COMMON_SUBEXPRESSIONS = GraphPass(
    "merge-common-subexpressions",
    "Exporters trace shape arithmetic, masks and position encodings anew for each use.",
    apply,
)
