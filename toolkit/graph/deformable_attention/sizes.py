"""Shapes of a graph's tensors when every open dimension has some definite size.

With definite sizes, shape arithmetic such as Shape, Gather, Concat, Reshape is plain arithmetic, however an exporter
spells it. What comes out the same for two choices of sizes is fixed; what differs depends on the open dimensions.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.shape_inference
from onnx import ModelProto, NodeProto
from onnx.reference import ReferenceEvaluator

from toolkit.graph.deformable_attention import remedies
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

logger = logging.getLogger(__name__)

Shape = tuple[int, ...]

LARGEST_VALUE = 1 << 16
"""Elements of the largest tensor that is computed: shapes, sizes of levels, scales."""
PRIMES = ((1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049), (2003, 2011, 2017, 2027, 2029, 2039, 2053, 2063))
"""Two choices of sizes for open dimensions; beyond eight of them, sizes count up from the last."""
LARGEST_INITIALIZER = 256
"""Elements of the largest constant that shape inference may have to know."""
COMPUTED = "computed "
"""How constants are called that stand for shapes which the graph computes."""
NORMALIZATIONS = ("GroupNormalization", "MeanVarianceNormalization", "RMSNormalization")
"""Operators that keep the shape of their input, though ONNX may not infer it, for it defines them by others."""
FLOAT = onnx.TensorProto.FLOAT
VALUE_OPS = frozenset(
    (
        *("Cast", "CastLike", "Concat", "ConstantOfShape", "Expand", "Flatten", "Gather", "Identity", "Range"),
        *("Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze", "Where"),
        *("Add", "And", "Div", "Equal", "Floor", "Greater", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or"),
        *("Reciprocal", "ReduceProd", "ReduceSum", "Sqrt", "Sub"),
    )
)
"""Operators by which exporters compute shapes and constant scales."""


@dataclass
class Sizes:
    """Shapes of tensors by name for one choice of sizes, and the values that follow from them."""

    shapes: Mapping[str, Shape]
    _values: dict[int, Any] = field(default_factory=dict)

    def shape(self, tensor: gs.Tensor) -> Shape | None:
        """The shape of a tensor, None if it depends on data or on an operator that ONNX does not know."""
        return tuple(tensor.shape) if is_constant(tensor) else self.shapes.get(tensor.name)

    def known_shape(self, tensor: gs.Tensor) -> Shape:
        """The shape of a tensor. Raises Unfit if it is not known."""
        shape = self.shape(tensor)
        if shape is None:
            raise Unfit(f"the shape of {tensor.name!r} is not known", remedies.SHAPES)
        return shape

    def value(self, tensor: gs.Tensor) -> Any:
        """What a tensor holds as an array, if it follows from constants and shapes, and is small; otherwise None."""
        if id(tensor) not in self._values:
            self._values[id(tensor)] = None
            self._values[id(tensor)] = self.computed(tensor)
        return self._values[id(tensor)]

    def integers(self, tensor: gs.Tensor) -> Any:
        """The value of a tensor that may be a shape, otherwise None."""
        shape = self.shape(tensor)
        if tensor.dtype != np.int64 or (shape is not None and math.prod(shape) > LARGEST_INITIALIZER):
            return None
        return self.value(tensor)

    def computed(self, tensor: gs.Tensor) -> Any:
        """`value` of a tensor that was not yet asked for."""
        shape = self.shape(tensor)
        if shape is not None and math.prod(shape) > LARGEST_VALUE:
            return None
        if is_constant(tensor):
            return tensor.values
        if not tensor.inputs:
            return None
        node = tensor.inputs[0]
        if node.op == "Shape":
            shape = self.shape(node.inputs[0])
            return None if shape is None else np.array(shape[node.attrs.get("start", 0) : node.attrs.get("end")])
        if node.op not in VALUE_OPS or node.domain:
            return None
        inputs = {given.name: self.value(given) for given in node.inputs if given.name}
        if any(value is None for value in inputs.values()):
            return None
        try:
            results = ReferenceEvaluator(node_message(node)).run(None, inputs)
        except Exception:  # the chosen sizes need not suit the node, which can then fail in any way
            return None
        return next(result for made, result in zip(node.outputs, results, strict=True) if made is tensor)


def two_choices(graph: gs.Graph) -> tuple[Sizes, ...]:
    """Sizes of a graph for two choices of its open dimensions, or for the only one if none is open."""
    choices = [chosen_dimensions(graph, primes) for primes in PRIMES]
    return tuple(inferred(graph, choice) for choice in (choices if choices[0] else choices[:1]))


def chosen_dimensions(graph: gs.Graph, primes: Shape) -> dict[Any, int]:
    """A size for each open dimension of the graph's inputs, by its name, or by input and axis if it has none."""
    dimensions = [dimension_key(tensor, axis) for tensor in graph.inputs for axis in range(len(tensor.shape or ()))]
    open_ones = list(dict.fromkeys(key for key in dimensions if not isinstance(key, int)))
    return {key: primes[i] if i < len(primes) else primes[-1] + i for i, key in enumerate(open_ones)}


def dimension_key(tensor: gs.Tensor, axis: int) -> int | str | tuple[str, int]:
    """A fixed dimension as its size, an open one as its name, or as its place if it has no name."""
    dimension = tensor.shape[axis]
    return dimension if isinstance(dimension, int | str) and dimension != "" else (tensor.name, axis)


def inferred(graph: gs.Graph, choice: Mapping[Any, int], given: Mapping[str, Any] = MappingProxyType({})) -> Sizes:
    """Shapes by ONNX's rules, and by computing those shapes that the graph itself computes.

    `given` are arrays that tensors are taken to hold, by name, whatever makes them.
    """
    model, tensors = skeleton(graph, choice, given), graph.tensors()
    values = {id(tensors[name]): value for name, value in given.items()}
    while True:
        try:
            result = onnx.shape_inference.infer_shapes(model, data_prop=True)
        except (RuntimeError, ValueError) as error:  # shapes contradict each other: what is fixed says enough
            logger.debug("no shapes inferred: %s", error)
            return Sizes(dict(stated_shapes(model)), dict(values))
        sizes = Sizes(dict(stated_shapes(result)), dict(values))
        computed = {
            name: value
            for node in model.graph.node
            if any(output and output not in sizes.shapes for output in node.output)
            for name in node.input
            if name in tensors and tensors[name].inputs and (value := sizes.integers(tensors[name])) is not None
        }
        kept = {
            node.output[0]: sizes.shapes[node.input[0]]
            for node in model.graph.node
            if node.op_type in NORMALIZATIONS and node.output[0] not in sizes.shapes and node.input[0] in sizes.shapes
        }
        if not computed and not kept:
            return sizes
        model.graph.value_info.extend(
            onnx.helper.make_tensor_value_info(name, type_number(tensors[name].dtype) or FLOAT, shape)
            for name, shape in kept.items()
        )
        for node in model.graph.node:
            node.input[:] = [COMPUTED + name if name in computed else name for name in node.input]
        model.graph.initializer.extend(onnx.numpy_helper.from_array(v, COMPUTED + k) for k, v in computed.items())


def skeleton(graph: gs.Graph, choice: Mapping[Any, int], given: Mapping[str, Any]) -> ModelProto:
    """The graph with sizes chosen, without its large weights and what makes tensors given, for shape inference."""
    model = ModelProto(ir_version=graph.ir_version or onnx.IR_VERSION)
    model.opset_import.add(domain="", version=graph.opset)
    for domain in sorted({node.domain for node in graph.nodes if node.domain}):
        model.opset_import.add(domain=domain, version=1)
    model.graph.name = "skeleton"
    for tensor in graph.inputs:
        if tensor.shape is not None:
            keys = [dimension_key(tensor, axis) for axis in range(len(tensor.shape))]
            shape = [key if isinstance(key, int) else choice[key] for key in keys]
            model.graph.input.append(tensor_info(tensor, shape))
    for name, tensor in graph.tensors().items():
        if name in given:
            model.graph.initializer.append(onnx.numpy_helper.from_array(given[name], name))
        elif is_constant(tensor) and math.prod(tensor.shape) <= LARGEST_INITIALIZER:
            model.graph.initializer.append(onnx.numpy_helper.from_array(tensor.values, tensor.name))
        elif is_constant(tensor):
            model.graph.input.append(tensor_info(tensor, tensor.shape))
        elif tensor.inputs and tensor.inputs[0].domain and tensor.shape is not None:
            shape = [choice.get(dimension, dimension) for dimension in tensor.shape]
            model.graph.value_info.append(tensor_info(tensor, shape))
    kept = (node for node in graph.nodes if not any(made.name in given for made in node.outputs))
    model.graph.node.extend(node_message(node) for node in kept)
    return model


def node_message(node: gs.Node) -> NodeProto:
    """A node in ONNX's form."""
    from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

    message: NodeProto = OnnxExporter.export_node(node)
    return message


def tensor_info(tensor: gs.Tensor, shape: Sequence[Any]) -> onnx.ValueInfoProto:
    """Name, type and shape of a tensor in ONNX's form."""
    return onnx.helper.make_tensor_value_info(
        tensor.name, type_number(tensor.dtype) or onnx.TensorProto.UNDEFINED, shape
    )


def type_number(dtype: Any) -> int | None:
    """ONNX's number for a type as graphsurgeon states it: NumPy's, or ONNX's own number where NumPy has none."""
    if dtype is None or isinstance(dtype, int):
        return dtype
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def type_name(tensor: gs.Tensor) -> str:
    """The type of a tensor in ONNX's words."""
    number = type_number(tensor.dtype)
    return "unknown" if number is None else onnx.TensorProto.DataType.Name(number).lower()


def stated_shapes(model: ModelProto) -> Iterator[tuple[str, Shape]]:
    """The definite shapes that a model states for its tensors."""
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dimension.HasField("dim_value") for dimension in kind.shape.dim):
            yield value.name, tuple(dimension.dim_value for dimension in kind.shape.dim)


def is_constant(tensor: gs.Tensor) -> bool:
    """Whether a tensor is stored in the model; its values may be large, and are read only when asked for."""
    import onnx_graphsurgeon as gs

    return isinstance(tensor, gs.Constant)
