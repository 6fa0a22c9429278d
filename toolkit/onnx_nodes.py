"""The nodes of an ONNX model, those in the branches and bodies of its control flow included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto


def standard_opset(model: ModelProto) -> int | None:
    """The version of the standard operators that a model imports; None if it imports none."""
    return next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), None)


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
