"""Random inputs that a model of unknown purpose can run on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto

from toolkit.onnx_nodes import all_nodes

IMAGE_SIZE, OTHER_SIZE = 64, 3
"""What an open height or width of an image, and any other open dimension, becomes."""
TRANSPARENT = ("Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Flatten")
"""Operators that hand an index on unchanged."""


def random_inputs(model: ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """An array for each input of a model, the same for a seed.

    Floats are standard normal; integers are indices into what they select from, or 0 and 1. Open dimensions of one
    name get one size. Raises ValueError for an input that is no tensor of numbers.
    """
    random = np.random.default_rng(seed)
    stored = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    sizes: dict[str, int] = {}
    arrays = {}
    for value in inputs:
        shape = concrete_shape(value, sizes)
        dtype = numpy_type(value)
        if dtype == np.bool_:
            array: np.ndarray = random.integers(0, 2, shape)
        elif np.issubdtype(dtype, np.integer):
            array = random.integers(0, index_bound(model, value.name), shape)
        else:
            array = random.standard_normal(shape)
        arrays[value.name] = np.asarray(array).astype(dtype)
    return arrays


def numpy_type(value: ValueInfoProto) -> np.dtype[Any]:
    """The type of an input's array. Raises ValueError if it is no tensor of numbers."""
    code = value.type.tensor_type.elem_type
    if not code or code == onnx.TensorProto.STRING:
        raise ValueError(f"input {value.name!r} is no tensor of numbers")
    return onnx.helper.tensor_dtype_to_np_dtype(code)


def concrete_shape(value: ValueInfoProto, sizes: dict[str, int]) -> tuple[int, ...]:
    """The shape of an input with open dimensions filled in, by `sizes` where it has their names; new ones join it."""
    dimensions = value.type.tensor_type.shape.dim
    shape = []
    for axis, dimension in enumerate(dimensions):
        size = IMAGE_SIZE if len(dimensions) == 4 and axis >= 2 else OTHER_SIZE
        if dimension.HasField("dim_value"):
            size = dimension.dim_value
        elif dimension.dim_param:
            size = sizes.setdefault(dimension.dim_param, size)
        shape.append(size)
    return tuple(shape)


def index_bound(model: ModelProto, name: str) -> int:
    """The size of the smallest axis that an input selects from, else 2."""
    shapes = known_shapes(model)
    followed, bounds = {name}, []
    for node in all_nodes(model.graph.node):
        if node.op_type in TRANSPARENT and node.input[0] in followed:
            followed.add(node.output[0])
        elif node.op_type in ("Gather", "GatherElements") and node.input[1] in followed:
            shape = shapes.get(node.input[0], ())
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            bounds += [shape[axis]] if -len(shape) <= axis < len(shape) and shape[axis] else []
    return min(bounds, default=2)


def known_shapes(model: ModelProto) -> Mapping[str, Sequence[int]]:
    """Shapes of weights and of tensors whose shape the model states; 0 for open dimensions."""
    values = (*model.graph.input, *model.graph.value_info)
    shapes: dict[str, Sequence[int]] = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    return shapes | {weight.name: weight.dims for weight in model.graph.initializer if math.prod(weight.dims)}
