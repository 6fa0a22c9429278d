"""The value of a single node whose inputs are known, by ONNX Runtime, unless it would be huge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.shape_inference
from onnx import ModelProto

from toolkit.onnxruntime_options import session_options

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

MOST_BYTES = 2**20
"""Of a result that is larger than what it is made from."""
SHAPE_ELEMENTS = 64
"""Inputs up to this size may decide the shape of the result."""
BOUNDED_OPS = ("NonZero", "Compress", "Unique")
"""Their result has no shape before it is computed, but is about as large as the input at most."""


class TooLarge(Exception):
    """The result would make the model larger than the node does; the message says so."""


def evaluate(node: gs.Node, inputs: Sequence[np.ndarray | None], opset: int) -> list[np.ndarray]:
    """The outputs of a node for its inputs, of which None are left out.

    Raises TooLarge for a result of more than `MOST_BYTES` and more than the inputs, or of unknown size.
    """
    import onnxruntime

    model = model_of(node, inputs, opset)
    given = sum(value.nbytes for value in inputs if value is not None)
    for size in result_bytes(model):
        if size is None and node.op not in BOUNDED_OPS:
            raise TooLarge(f"{node.op} makes a result of unknown size")
        if size is not None and size > max(MOST_BYTES, given):
            raise TooLarge(f"{node.op} makes {size} bytes of {given}; the limit is {MOST_BYTES}")
    options = session_options(threads=1, optimized=False)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    fed = {name: value for name, value in named(inputs).items() if name in names}
    results: list[np.ndarray] = session.run(None, fed)
    return results


def named(inputs: Sequence[np.ndarray | None]) -> dict[str, np.ndarray]:
    """Inputs by the names they have in the model of the node."""
    return {f"input{index}": value for index, value in enumerate(inputs) if value is not None}


def model_of(node: gs.Node, inputs: Sequence[np.ndarray | None], opset: int) -> ModelProto:
    """A model of the node alone; inputs are small ones as initializers, by which shapes are inferred, others as inputs.

    Output shapes are inferred.
    """
    import onnx_graphsurgeon as gs

    tensors = []
    for index, value in enumerate(inputs):
        if value is None:
            tensors.append(gs.Variable.empty())
        elif value.size <= SHAPE_ELEMENTS:
            tensors.append(gs.Constant(f"input{index}", value))
        else:
            tensors.append(gs.Variable(f"input{index}", value.dtype, value.shape))
    outputs = [gs.Variable(f"output{index}") for index in range(len(node.outputs))]
    graph = gs.Graph(
        [node.copy(inputs=tensors, outputs=outputs)],
        inputs=[tensor for tensor in tensors if isinstance(tensor, gs.Variable) and tensor.name],
        outputs=outputs,
        opset=opset,
        ir_version=10,
    )
    model = gs.export_onnx(graph, do_type_check=False)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def result_bytes(model: ModelProto) -> list[int | None]:
    """The size of each output as inferred; None if unknown."""
    sizes: list[int | None] = []
    for value in model.graph.output:
        tensor = value.type.tensor_type
        known = tensor.HasField("shape") and all(dimension.HasField("dim_value") for dimension in tensor.shape.dim)
        elements = math.prod(dimension.dim_value for dimension in tensor.shape.dim)
        sizes.append(elements * onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize if known else None)
    return sizes
