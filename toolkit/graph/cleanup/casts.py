"""Removal of casts that another cast makes needless."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toolkit.graph.cleanup.identities import cast_type
from toolkit.graph.edits import graph_and_inner, is_standard
from toolkit.graph.graph_pass import Change, GraphPass, NearMiss, Outcome

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def apply(graph: gs.Graph) -> Outcome:
    """Let a cast read past another one before it that loses nothing."""
    changes, near_misses = [], []
    for part in graph_and_inner(graph):
        for node in part.nodes:
            inner = node.inputs[0].inputs[0] if is_standard(node, "Cast") and node.inputs[0].inputs else None
            if inner is None or not is_standard(inner, "Cast"):
                continue
            source, middle = inner.inputs[0].dtype, cast_type(inner)
            if is_lossless(source, middle):
                node.inputs[0] = inner.inputs[0]
                changes.append(Change(node.name, f"reads past the cast {inner.name!r}"))
            else:
                near_misses.append(
                    NearMiss(node.name, f"the cast {inner.name!r} before it, {source} to {middle}, rounds")
                )
    return Outcome(tuple(changes), tuple(near_misses))


def is_lossless(source: object, target: object) -> bool:
    """Whether every value of one type is exactly a value of another; only numpy's own types are known."""
    if not isinstance(source, np.dtype) or not isinstance(target, np.dtype):
        return False
    wide_integer = np.issubdtype(source, np.integer) and source.itemsize == 8
    return np.can_cast(source, target, "safe") and not (wide_integer and np.issubdtype(target, np.floating))


REMOVE_DUPLICATE_CASTS = GraphPass(
    "remove-duplicate-casts",
    "Exporters cast back and forth; of two casts in a row the first is needless if it keeps every value.",
    apply,
)
