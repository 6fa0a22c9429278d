"""Constants of a graph: nodes that hold a value become constants proper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

NUMBERS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
"""Attributes of a ``Constant`` node that hold plain numbers, and their type."""


def lift_constants(graph: gs.Graph) -> None:
    """Turn the ``Constant`` nodes of a graph and its inner graphs into constants, so that passes know one kind."""
    for inner in graph.subgraphs():
        lift_constants(inner)
    outputs = {id(tensor) for tensor in graph.outputs}
    kept = []
    for node in graph.nodes:
        values = constant_values(node)
        if values is None or id(node.outputs[0]) in outputs:
            kept.append(node)
            continue
        [tensor] = node.outputs
        node.outputs.clear()
        tensor.to_constant(values)
    graph.nodes = kept


def constant_values(node: gs.Node) -> Any:
    """What a ``Constant`` node holds, as an array or lazily loaded; None for any other node, text or sparse values."""
    if node.op != "Constant" or node.domain or len(node.attrs) != 1:
        return None
    [(name, value)] = node.attrs.items()
    if name == "value":
        return value._values  # the array itself would be loaded here
    return np.array(value, NUMBERS[name]) if name in NUMBERS else None
