"""Random inputs that a model of unknown purpose can run on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto

from toolkit.onnx_nodes import all_nodes


@dataclass(frozen=True)
class Sizes:
    """What open dimensions become: the first one of an input, height and width of an image, and any other.

    The first is taken for the batch, which is the second of a recurrent state; a vector has none.
    """

    first: int
    image: int
    other: int


SIZES = (
    Sizes(3, 64, 3),
    Sizes(3, 64, 64),
    Sizes(1, 64, 64),
    Sizes(1, 128, 256),
    Sizes(1, 256, 512),
    Sizes(512, 256, 512),
)
"""In turn, until a model runs: signals and pictures may be too short, and some models take one of them at a time."""
MOST_ELEMENTS = 2**22
"""Of all inputs together, in larger sizes than the first."""
TRANSPARENT = ("Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Flatten")
"""Operators that hand an index on unchanged."""


def candidate_inputs(model: ModelProto) -> Iterator[dict[str, np.ndarray]]:
    """Inputs of ever larger sizes, as far as the model leaves them open. Raises ValueError as `random_inputs` does."""
    tried: list[Mapping[str, tuple[int, ...]]] = []
    for sizes in SIZES:
        shapes = input_shapes(model, sizes)
        if tried and (shapes in tried or sum(map(math.prod, shapes.values())) > MOST_ELEMENTS):
            continue
        tried.append(shapes)
        yield random_inputs(model, sizes=sizes)


def random_inputs(model: ModelProto, seed: int = 0, sizes: Sizes = SIZES[0]) -> dict[str, np.ndarray]:
    """An array for each input of a model, the same for a seed.

    Floats are standard normal; integers are indices into what they select from, or 0 and 1. Open dimensions of one
    name get one size. Raises ValueError for an input that is no tensor of numbers.
    """
    random = np.random.default_rng(seed)
    shapes = input_shapes(model, sizes)
    arrays = {}
    for value in own_inputs(model):
        shape = shapes[value.name]
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


def own_inputs(model: ModelProto) -> list[ValueInfoProto]:
    """The inputs of a model that no weight stands for."""
    stored = {weight.name for weight in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def input_shapes(model: ModelProto, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """The shapes of the inputs with open dimensions filled in, those of one name with one size."""
    named: dict[str, int] = {}
    return {value.name: concrete_shape(value, sizes, named) for value in own_inputs(model)}


def concrete_shape(value: ValueInfoProto, sizes: Sizes, named: dict[str, int]) -> tuple[int, ...]:
    """The shape of an input with open dimensions filled in, by `named` where it has their names; new ones join it."""
    dimensions = value.type.tensor_type.shape.dim
    is_open = [not dimension.HasField("dim_value") for dimension in dimensions]
    first = is_open.index(True) if any(is_open) and len(dimensions) > 1 else None
    shape = []
    for axis, dimension in enumerate(dimensions):
        size = sizes.first if axis == first else sizes.other
        if dimension.HasField("dim_value"):
            size = dimension.dim_value
        elif len(dimensions) == 4 and axis >= 2:
            size = sizes.image
        if dimension.dim_param:
            size = named.setdefault(dimension.dim_param, size)
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
