"""The values of single nodes whose inputs are known, by ONNX Runtime, within bounds for each and for all together."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.shape_inference
from onnx import ModelProto

from toolkit.bounded.limits import LimitExceeded, Limits
from toolkit.bounded.process import BoundedProcess
from toolkit.graph.edits import constant, graph_and_inner, stored_bytes
from toolkit.graph.unheld import unheld_attributes
from toolkit.onnxruntime_options import session_options

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

MOST_BYTES = 2**20
"""Of a result that is larger than what it is made from."""
MOST_GROWTH = 2**26
"""Bytes that all results together may add to a model; or as many as its constants have, if that is more."""
SECONDS, SECONDS_PER_NODE, SECONDS_PER_MB = 3.0, 0.002, 0.05
"""For one node, and then for all of them, by the nodes of the model and its constants."""
BYTES, BYTES_PER_BYTE = 2**29, 4
"""Memory of the process that computes, by the constants of the model."""
SHAPE_ELEMENTS = 64
"""Inputs up to this size may decide the shape of the result."""
BOUNDED_OPS = ("NonZero", "Compress", "Unique")
"""Their result has no shape before it is computed, but is about as large as the input at most."""


class TooLarge(Exception):
    """The result would take or make too much, and is left to whoever runs the model; the message says so."""


def folding_limits(graph: gs.Graph) -> Limits:
    """What the process may take that computes nodes of a graph."""
    nodes = sum(len(part.nodes) for part in graph_and_inner(graph))
    size = constant_bytes(graph)
    return Limits(SECONDS + SECONDS_PER_NODE * nodes + SECONDS_PER_MB * size / 1e6, BYTES + BYTES_PER_BYTE * size)


def constant_bytes(graph: gs.Graph) -> int:
    """What the constants of a graph, and of its inner graphs, take in its model."""
    tensors = {id(tensor): tensor for part in graph_and_inner(graph) for tensor in part.tensors().values()}
    return sum(map(stored_bytes, tensors.values()))


class Evaluator:
    """Computes nodes of a graph one by one, until what they may take together is used up.

    It does so in a process with limits: a few numbers are enough to make an operator run without end.
    """

    def __init__(self, graph: gs.Graph, process: BoundedProcess) -> None:
        self._opset, self._process = graph.opset, process
        self._seconds, self._growth = process.limits.seconds, max(MOST_GROWTH, constant_bytes(graph))

    def values(self, node: gs.Node) -> list[np.ndarray] | None:
        """The outputs of a node; None if it has inputs that are not constant.

        Raises TooLarge if they take too much, and CallFailed if ONNX Runtime cannot compute them.
        """
        inputs = [None if tensor.is_empty() else constant(tensor) for tensor in node.inputs]
        if any(value is None and not tensor.is_empty() for value, tensor in zip(inputs, node.inputs, strict=True)):
            return None
        sizes = {id(t): (t, value.nbytes) for t, value in zip(node.inputs, inputs, strict=True) if value is not None}
        freed = sum(size for tensor, size in sizes.values() if all(user is node for user in tensor.outputs))
        model = model_of(node, inputs, self._opset)
        self._check(node.op, result_bytes(model), sum(size for _, size in sizes.values()), freed)
        results = self._run(node.op, model, inputs)
        self._growth += freed - sum(result.nbytes for result in results)
        return results

    def _check(self, op: str, sizes: Sequence[int | None], given: int, freed: int) -> None:
        for size in sizes:
            if size is None and op not in BOUNDED_OPS:
                raise TooLarge(f"{op} makes a result of unknown size")
            if size is not None and size > max(MOST_BYTES, given):
                raise TooLarge(f"{op} makes {size} bytes of {given}; the limit is {MOST_BYTES}")
        if sum(size or 0 for size in sizes) - freed > self._growth:
            raise TooLarge(f"{op} makes more constants than a model of this size may be given")

    def _run(self, op: str, model: ModelProto, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        if self._seconds <= 0:
            raise TooLarge("other nodes took all the time that there is for a model of this size")
        started = time.perf_counter()
        try:
            results = self._process.call(run, model.SerializeToString(), named(inputs))
        except LimitExceeded as reason:
            self._seconds = 0.0
            raise TooLarge(f"{op} {reason}") from reason
        self._seconds -= time.perf_counter() - started
        return results


def run(model: bytes, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a model as ONNX Runtime computes them; of `inputs` it gets those it has."""
    import onnxruntime

    options = session_options(threads=1, optimized=False, lasting=False)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    results: list[np.ndarray] = session.run(None, {name: inputs[name] for name in names})
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
    model.graph.node[0].attribute.extend(unheld_attributes(node))
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def result_bytes(model: ModelProto) -> list[int | None]:
    """The size of each output as inferred; None if unknown, as is that of text."""
    sizes: list[int | None] = []
    for value in model.graph.output:
        tensor = value.type.tensor_type
        known = tensor.HasField("shape") and all(dimension.HasField("dim_value") for dimension in tensor.shape.dim)
        known = known and tensor.elem_type != onnx.TensorProto.STRING
        elements = math.prod(dimension.dim_value for dimension in tensor.shape.dim)
        sizes.append(elements * onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize if known else None)
    return sizes
