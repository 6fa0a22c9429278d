"""Merging of constants that hold the same."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from toolkit.graph.edits import Rewiring, constant, graph_and_inner
from toolkit.graph.graph_pass import Change, GraphPass, Outcome

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def apply(graph: gs.Graph) -> Outcome:
    """Let nodes use the first of all constants of one type, shape and content."""
    import onnx_graphsurgeon as gs

    changes = []
    for part in graph_and_inner(graph):
        rewiring = Rewiring(part)
        alike: dict[tuple[object, ...], list[gs.Constant]] = {}
        for tensor in part.tensors().values():
            if isinstance(tensor, gs.Constant) and not isinstance(tensor.dtype, int):
                alike.setdefault((str(tensor.dtype), tuple(tensor.shape)), []).append(tensor)
        for group in alike.values():
            first: dict[bytes, gs.Constant] = {}
            for tensor in group if len(group) > 1 else []:
                kept = first.setdefault(digest(tensor), tensor)
                if kept is not tensor and all(tensor is not output for output in part.outputs):
                    rewiring.redirect(tensor, kept)
                    changes.append(Change(tensor.name, f"is {kept.name!r}"))
    return Outcome(tuple(changes))


def digest(tensor: gs.Constant) -> bytes:
    """Of the bytes of a constant."""
    values = constant(tensor)
    assert values is not None
    return hashlib.sha256(values.tobytes()).digest()


MERGE_DUPLICATE_INITIALIZERS = GraphPass(
    "merge-duplicate-initializers",
    "Exporters write a weight once for each use, and a constant once for each mention.",
    apply,
)
