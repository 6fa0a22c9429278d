"""Large weights apart from the rest of a model, so that tools which serialize a model need not carry them."""

from __future__ import annotations

import math
from typing import TypeVar

import onnx
from google.protobuf.message import Message
from onnx import ModelProto, TensorProto

SMALLEST = 256
"""Elements of the smallest weight that is set apart; shapes, axes and indices stay, for shape inference reads them."""

AnyMessage = TypeVar("AnyMessage", bound=Message)


def split_weights(model: ModelProto) -> tuple[ModelProto, dict[str, TensorProto]]:
    """A copy of the model without its large weights, and these by name."""
    light = copy_without(model, "graph")
    light.graph.CopyFrom(copy_without(model.graph, "initializer"))
    weights = {}
    for initializer in model.graph.initializer:
        if math.prod(initializer.dims) >= SMALLEST:
            weights[initializer.name] = initializer
        else:
            light.graph.initializer.append(initializer)
    return light, weights


def with_weights_as_inputs(model: ModelProto) -> tuple[ModelProto, dict[str, TensorProto]]:
    """A copy of the model in which large weights are inputs, and these by name.

    Both the checker and ONNX Runtime take it for the same network; it stays far below protobuf's limit of 2 GB. Weights
    of types that numpy lacks, such as bfloat16, stay, for ONNX Runtime takes no inputs of them.
    """
    light, weights = split_weights(model)
    for name, weight in list(weights.items()):
        if onnx.helper.tensor_dtype_to_np_dtype(weight.data_type).isbuiltin != 1:
            light.graph.initializer.append(weights.pop(name))
    known = {value.name for value in light.graph.input}
    light.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, weight.data_type, list(weight.dims))
        for name, weight in weights.items()
        if name not in known
    )
    return light, weights


def copy_without(message: AnyMessage, left_out: str) -> AnyMessage:
    """A copy of a message with one field left empty."""
    copy: AnyMessage = type(message)()
    for field, value in message.ListFields():
        if field.name == left_out:
            continue
        if isinstance(value, Message):
            getattr(copy, field.name).CopyFrom(value)
        elif isinstance(value, str | bytes | int | float):
            setattr(copy, field.name, value)
        else:
            getattr(copy, field.name).extend(value)
    return copy
