"""New nodes of standard operators with names of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

AXES_BY_INPUT = 18
"""The opset from which all reductions take their axes as an input; ReduceSum does so before."""


class Builder:
    """Makes nodes named after the one they replace; `nodes` are to be added to the graph if they are wanted."""

    def __init__(self, graph: gs.Graph, name: str) -> None:
        self.opset: int = graph.opset
        self.name = name
        self.nodes: list[gs.Node] = []
        self.constants = 0

    def node(self, op: str, inputs: Sequence[gs.Tensor], **attributes: Any) -> gs.Tensor:
        """The result of a new node."""
        import onnx_graphsurgeon as gs

        name = f"{self.name}/{op}_{len(self.nodes)}"
        output = gs.Variable(name)
        self.nodes.append(gs.Node(op, name, attributes, list(inputs), [output]))
        return output

    def copy(self, node: gs.Node, inputs: Sequence[gs.Tensor]) -> list[gs.Tensor]:
        """The results of a node once more, of other inputs."""
        import onnx_graphsurgeon as gs

        outputs = [gs.Variable(f"{self.name}/{tensor.name}", tensor.dtype) for tensor in node.outputs]
        name = f"{node.name}/{self.name.rpartition('/')[-1]}"
        self.nodes.append(gs.Node(node.op, name, dict(node.attrs), list(inputs), outputs, node.domain))
        return outputs

    def constant(self, value: np.ndarray) -> gs.Tensor:
        """A constant that is used once."""
        import onnx_graphsurgeon as gs

        self.constants += 1
        return gs.Constant(f"{self.name}/constant_{self.constants}", value)

    def trailing(self, mask: gs.Tensor, count: int) -> gs.Tensor:
        """A mask with that many more axes, of size 1, at its end."""
        if not count:
            return mask
        axes = np.arange(len(mask.shape), len(mask.shape) + count)
        return self.node("Unsqueeze", [mask, self.constant(axes)])

    def count(self, mask: gs.Tensor) -> gs.Tensor:
        """How often a mask holds, as an int64 scalar."""
        ones = self.node("Cast", [mask], to=int(onnx.TensorProto.INT64))
        return self.reduce("ReduceSum", ones, range(len(mask.shape)), keep=0)

    def reduce(self, op: str, x: gs.Tensor, axes: Sequence[int], keep: int) -> gs.Tensor:
        """A reduction, in the way of the graph's opset."""
        if op == "ReduceSum" or self.opset >= AXES_BY_INPUT:
            return self.node(op, [x, self.constant(np.array(list(axes)))], keepdims=keep)
        return self.node(op, [x], axes=list(axes), keepdims=keep)
