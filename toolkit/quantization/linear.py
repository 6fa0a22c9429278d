"""Linear layers whose bias stands apart from the product, so that ONNX Runtime leaves the product alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toolkit.graph.edits import constant, index_of, is_standard

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def set_bias_apart(graph: gs.Graph, node: gs.Node) -> None:
    """Let a Gemm, or a MatMul before an Add, with a constant weight be a MatMul before a Sub of the negated bias.

    That computes the same. Before it looks for Q/DQ nodes, ONNX Runtime makes one Gemm of a MatMul and an Add; and
    has an integer kernel for a Gemm only if its bias is quantized, which TensorRT refuses.
    """
    import onnx_graphsurgeon as gs

    if node.op == "Gemm":
        weight, bias = constant(node.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if node.attrs.get("transB", 0):
            assert weight is not None  # of a linear layer
            node.inputs[1] = gs.Constant(f"{node.name}/weight", np.ascontiguousarray(weight.T))
        node.op, node.attrs = "MatMul", {}
        node.inputs = list(node.inputs[:2])
        if bias is not None:
            [output] = node.outputs
            product = gs.Variable(f"{node.name}/product", output.dtype, output.shape)
            node.outputs[0] = product
            graph.nodes.append(gs.Node("Sub", f"{node.name}/bias", {}, [product, negated(node, bias)], [output]))
        return
    [product] = node.outputs
    [reader] = product.outputs if len(product.outputs) == 1 else [None]
    if reader is not None and is_standard(reader, "Add"):
        bias = constant(reader.inputs[1 - index_of(reader.inputs, product)])
        if bias is not None:
            reader.op, reader.inputs = "Sub", [product, negated(node, bias)]


def negated(node: gs.Node, bias: np.ndarray) -> gs.Constant:
    """The negated bias of a layer, as a constant of its own."""
    import onnx_graphsurgeon as gs

    return gs.Constant(f"{node.name}/negated_bias", np.asarray(-bias))  # of a bias without dimensions, a number
