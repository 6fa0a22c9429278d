"""What ONNX's checker says of a model."""

from __future__ import annotations

import onnx
from onnx import ModelProto, TensorProto

from toolkit.graph.weights import with_weights_as_inputs
from toolkit.onnx_nodes import all_nodes
from toolkit.text import one_line

LACKING_DOMAIN = "not.onnx"
"""What operators that ONNX lacks are taken for, so that the checker demands nothing of them."""


def checker_fault(model: ModelProto, *, any_operator: bool = False) -> str:
    """What ONNX's checker says against a model, in one line; empty if nothing.

    What nothing depends on may be left out: the graph's name, the types of its outputs, and the number of dimensions of
    what goes in and out. With `any_operator`,
    operators that ONNX lacks may stand among the standard ones, for TensorRT finds its plugins by the name alone.
    """
    light, _ = with_weights_as_inputs(model)
    light.graph.name = light.graph.name or "nameless"
    for value in light.graph.output:
        if not value.HasField("type"):
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for value in (*light.graph.input, *light.graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    if any_operator:
        set_apart_lacking(light)
    try:
        onnx.checker.check_model(light)
    except (onnx.checker.ValidationError, ValueError) as error:
        return one_line(error)
    return ""


def set_apart_lacking(model: ModelProto) -> None:
    """Give operators that ONNX lacks a domain of their own, in place."""
    lacking = [
        node
        for part in (model.graph, *model.functions)
        for node in all_nodes(part.node)
        if not node.domain and not onnx.defs.has(node.op_type)
    ]
    for node in lacking:
        node.domain = LACKING_DOMAIN
    if lacking:
        for part in (model, *model.functions):
            part.opset_import.append(onnx.helper.make_opsetid(LACKING_DOMAIN, 1))
