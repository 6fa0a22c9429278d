"""The nodes of an ONNX model, those in the branches and bodies of its control flow included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto


def standard_opset(model: ModelProto) -> int | None:
    """The version of the standard operators that a model imports; None if it imports none."""
    return next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), None)


def stated_shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes of the main graph's tensors that the model states, by name; those with open sizes are left out."""
    graph = model.graph
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        described = value.type.tensor_type
        if described.HasField("shape") and all(size.HasField("dim_value") for size in described.shape.dim):
            shapes[value.name] = tuple(size.dim_value for size in described.shape.dim)
    return shapes


def inner_graphs(node: NodeProto) -> Iterator[GraphProto]:
    """The branches or the body of a control-flow node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Nodes, each before those of its inner graphs."""
    for node in nodes:
        yield node
        for inner in inner_graphs(node):
            yield from all_nodes(inner.node)
