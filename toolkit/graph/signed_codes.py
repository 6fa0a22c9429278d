"""8-bit codes as TensorRT has them: signed, with zero at 0, and read by nothing but what makes floats of them."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto
from onnx.helper import make_node

MIDDLE = 128
"""The code of zero in uint8 with which the codes are those of int8 and 128 more."""
SIGNED_ZERO = "signed_zero_point"


def sign_codes(model: ModelProto) -> None:
    """Let QuantizeLinear nodes whose zero is the uint8 128, and what dequantizes behind them, use int8 and 0, in place.

    Every code is then less by 128, and stands for the same number. A Clip of such codes at zero becomes a Relu of the
    numbers. Codes that any other node reads stay as they are.
    """
    graph = model.graph
    unclip_codes(graph)
    middles = {weight.name for weight in graph.initializer if is_middle(weight)}
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    kept = {value.name for value in graph.output}
    signed = set()
    for node in (node for node in graph.node if node.op_type == "QuantizeLinear" and node.output[0] not in kept):
        behind = readers[node.output[0]]
        if all(each.op_type == "DequantizeLinear" for each in behind) and zero_points(node, *behind) <= middles:
            signed.add(node.output[0])
            for each in (node, *behind):
                each.input[2] = SIGNED_ZERO
    if signed:
        used = {name for node in graph.node for name in node.input}
        unused = [weight for weight in graph.initializer if weight.name in middles - used]
        for weight in unused:
            graph.initializer.remove(weight)
        graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((), np.int8), SIGNED_ZERO))
    for value in graph.value_info:
        if value.name in signed:
            value.type.tensor_type.elem_type = TensorProto.INT8


def unclip_codes(graph: GraphProto) -> None:
    """Let each Clip of uint8 codes at the code of zero be a Relu of the numbers, with codes made anew behind it."""
    middles = {weight.name for weight in graph.initializer if is_middle(weight)}
    quantizers = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    nodes = []
    for node in graph.node:
        quantizer = quantizers.get(node.input[0]) if node.op_type == "Clip" else None
        if quantizer is None or len(node.input) != 2 or {node.input[1], *zero_points(quantizer)} - middles:
            nodes.append(node)
            continue
        codes, zero = node.input
        parameters, [clipped] = [quantizer.input[1], zero], node.output
        numbers, above = f"{clipped}_before_relu", f"{clipped}_after_relu"
        made = [
            make_node("DequantizeLinear", [codes, *parameters], [numbers], f"{node.name}/DequantizeLinear"),
            make_node("Relu", [numbers], [above], node.name),
            make_node("QuantizeLinear", [above, *parameters], [clipped], f"{node.name}/QuantizeLinear"),
        ]
        for each in made:
            each.metadata_props.extend(node.metadata_props)
        nodes += made
    if len(nodes) > len(graph.node):
        del graph.node[:]
        graph.node.extend(nodes)


def is_middle(weight: TensorProto) -> bool:
    """Whether a weight is a single uint8 in the middle of the type's range."""
    return bool(
        weight.data_type == TensorProto.UINT8 and not weight.dims and onnx.numpy_helper.to_array(weight) == MIDDLE
    )


def zero_points(*nodes: NodeProto) -> set[str]:
    """The names of the zero points of Q/DQ nodes; one is empty if a node has none."""
    return {node.input[2] if len(node.input) > 2 else "" for node in nodes}
