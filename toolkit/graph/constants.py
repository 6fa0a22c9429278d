"""Constants of a graph: nodes that hold a value become constants proper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.graph.edits import graph_and_inner

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

NUMBERS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
"""Attributes of a ``Constant`` node that hold plain numbers, and their type."""


def lift_constants(graph: gs.Graph) -> None:
    """Turn the ``Constant`` nodes of a graph and its inner graphs into constants, so that passes know one kind."""
    for part in graph_and_inner(graph):
        outputs = {id(tensor) for tensor in part.outputs}
        kept = []
        for node in part.nodes:
            values = constant_values(node)
            if values is None or id(node.outputs[0]) in outputs:
                kept.append(node)
                continue
            [tensor] = node.outputs
            node.outputs.clear()
            tensor.to_constant(values)
        part.nodes = kept


def constant_values(node: gs.Node) -> Any:
    """What a ``Constant`` node holds, as an array or lazily loaded; None for any other node, text or sparse values."""
    if node.op != "Constant" or node.domain or len(node.attrs) != 1:
        return None
    [(name, value)] = node.attrs.items()
    if name == "value":
        return value._values  # the array itself would be loaded here
    return np.array(value, NUMBERS[name]) if name in NUMBERS else None
