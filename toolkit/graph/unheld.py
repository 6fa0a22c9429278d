"""What onnx-graphsurgeon cannot hold of a model, kept on the nodes and tensors that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from onnx import AttributeProto, GraphProto, NodeProto

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def keep_unheld(graph: gs.Graph, proto: GraphProto) -> None:
    """Note on a graph that was read from a message what the graph lacks of it, inner graphs included.

    That are attributes that hold types, sparse tensors or nothing at all, and the types of sequences, optional values
    and the like, which have neither dtype nor shape in the graph.
    """
    for part, message in paired_graphs(graph, proto):
        for node, node_proto in zip(part.nodes, message.node, strict=True):
            node.unheld_attributes = [a for a in node_proto.attribute if is_lost(node.attrs.get(a.name))]
            for attribute in node.unheld_attributes:
                node.attrs.pop(attribute.name, None)
        types = {value.name: value.type for value in (*message.input, *message.output)}
        for tensor in (*part.inputs, *part.outputs, *part.tensors().values()):
            if getattr(tensor, "type", "tensor_type") not in ("tensor_type", None):
                tensor.type, tensor.dtype, tensor.shape = "tensor_type", None, None
                tensor.value_type = types.get(tensor.name)


def is_lost(value: object) -> bool:
    """Whether an attribute was not read, or is an empty list, which could not be written."""
    return value is None or (isinstance(value, list) and not value)


def restore_unheld(graph: gs.Graph, proto: GraphProto) -> None:
    """Write what was noted on a graph into the message that was made of it."""
    for part, message in paired_graphs(graph, proto):
        for node, node_proto in zip(part.nodes, message.node, strict=True):
            node_proto.attribute.extend(unheld_attributes(node))
        values = (*message.input, *message.output)
        for tensor, value in zip((*part.inputs, *part.outputs), values, strict=True):
            if getattr(tensor, "value_type", None) is not None:
                value.type.CopyFrom(tensor.value_type)


def unheld_attributes(node: gs.Node) -> list[AttributeProto]:
    """Attributes of a node besides `node.attrs`."""
    return getattr(node, "unheld_attributes", [])


def paired_graphs(graph: gs.Graph, proto: GraphProto) -> Iterator[tuple[gs.Graph, GraphProto]]:
    """A graph and its inner graphs with their counterparts in the message it was read from or written to."""
    import onnx_graphsurgeon as gs

    yield graph, proto
    for node, node_proto in zip(graph.nodes, proto.node, strict=True):
        inner = {attribute.name: attribute.g for attribute in node_proto.attribute}
        for name, value in node.attrs.items():
            if isinstance(value, gs.Graph):
                yield from paired_graphs(value, inner[name])


def paired_nodes(graph: gs.Graph, proto: GraphProto) -> Iterator[tuple[Any, NodeProto]]:
    """Nodes of a graph and of its inner graphs with their counterparts in such a message."""
    for part, message in paired_graphs(graph, proto):
        yield from zip(part.nodes, message.node, strict=True)
