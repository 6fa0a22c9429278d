"""Folding: what depends on constants and known shapes alone is computed once, here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toolkit.bounded.limits import CallFailed
from toolkit.bounded.process import BoundedProcess
from toolkit.graph.cleanup.branches import take_constant_branches
from toolkit.graph.cleanup.evaluation import Evaluator, TooLarge, folding_limits
from toolkit.graph.edits import constant, graph_and_inner, input_constant, is_deterministic, is_standard
from toolkit.graph.graph_pass import Change, GraphPass, NearMiss, Outcome
from toolkit.graph.unused import detach
from toolkit.text import one_line

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

KEPT_OPS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Softmax", "Constant")
"""Quantization tells TensorRT where to quantize, also on constants. The first layer of a decoder attends from constant
queries: without its softmax it could not be fused. A ``Constant`` is left where it holds text or is an output."""


def apply(graph: gs.Graph) -> Outcome:
    """Fold all nodes, those of constant branches too."""
    with BoundedProcess(folding_limits(graph)) as process:
        return fold(graph, Evaluator(graph, process))


def fold(graph: gs.Graph, evaluator: Evaluator) -> Outcome:
    """Fold all nodes whose values the evaluator finds."""
    changes: list[Change] = []
    near_misses: dict[str, NearMiss] = {}
    while True:
        for part in graph_and_inner(graph):
            for node in part.nodes:
                if is_standard(node, "Range"):
                    make_scalars(node)
                if any(tensor is output for tensor in node.outputs for output in part.outputs):
                    continue
                try:
                    values = folded(node, evaluator)
                except TooLarge as reason:
                    near_misses[node.name] = NearMiss(node.name, str(reason))
                    continue
                except CallFailed as reason:  # ONNX Runtime has no kernel for every type
                    near_misses[node.name] = NearMiss(node.name, f"cannot be computed: {reason}")
                    continue
                except Exception as error:  # of the libraries that describe the node
                    near_misses[node.name] = NearMiss(node.name, f"cannot be computed: {one_line(error)}")
                    continue
                if values is not None:
                    become_constants(node, values)
                    changes.append(Change(node.name, f"{node.op} folded"))
        taken = take_constant_branches(graph)
        changes += taken
        if not taken:
            return Outcome(tuple(changes), tuple(near_misses.values()))


def folded(node: gs.Node, evaluator: Evaluator) -> list[np.ndarray] | None:
    """What a node makes whenever it runs; None if that depends on the model's inputs.

    Raises what the evaluator raises.
    """
    if not is_deterministic(node) or node.op in KEPT_OPS or not node.outputs:
        return None
    sizes = known_sizes(node)
    return evaluator.values(node) if sizes is None else [sizes]


def known_sizes(node: gs.Node) -> np.ndarray | None:
    """What a node makes of the shape of a tensor, if it needs known dimensions alone, though others be open."""
    if is_standard(node, "Shape"):
        return whole_numbers(shape_slice(node))
    if is_standard(node, "Size"):
        shape = whole_numbers(node.inputs[0].shape)
        return None if shape is None else np.array(shape.prod(), np.int64)
    maker = node.inputs[0].inputs[0] if node.inputs and node.inputs[0].inputs else None
    if maker is None or not is_standard(maker, "Shape") or not is_standard(node, "Gather", "Slice"):
        return None
    picked = whole_numbers(picked_dimensions(node, shape_slice(maker)))
    scalar = node.op == "Gather" and node.inputs[1].shape is not None and len(node.inputs[1].shape) == 0
    return picked[0] if picked is not None and scalar else picked


def shape_slice(node: gs.Node) -> list[int | str | None] | None:
    """The dimensions that a ``Shape`` node gives, open ones as they are named."""
    shape = node.inputs[0].shape
    return None if shape is None else list(shape)[node.attrs.get("start", 0) : node.attrs.get("end")]


def picked_dimensions(node: gs.Node, shape: list[int | str | None] | None) -> list[int | str | None] | None:
    """Those of a shape that a ``Gather`` or ``Slice`` picks."""
    arguments = [input_constant(node, index) for index in range(1, len(node.inputs))]
    if shape is None or any(argument is None for argument in arguments):
        return None
    [first, *others] = [argument.ravel().tolist() for argument in arguments if argument is not None]
    if node.op == "Gather":
        return [shape[index] for index in first] if arguments[0] is not None and arguments[0].ndim < 2 else None
    [end], [step] = others[0], others[2] if len(others) > 2 else [1]
    return shape[slice(first[0], end, step)] if step > 0 else None


def whole_numbers(dimensions: list[int | str | None] | None) -> np.ndarray | None:
    """Dimensions as an array if all are known."""
    if dimensions is None or not all(isinstance(size, int) for size in dimensions):
        return None
    return np.array(dimensions, np.int64)


def make_scalars(node: gs.Node) -> None:
    """Give a ``Range`` constant bounds without dimensions: ONNX Runtime takes [1] as well, but not from a constant."""
    import onnx_graphsurgeon as gs

    for index, tensor in enumerate(node.inputs):
        value = constant(tensor)
        if value is not None and value.shape == (1,):
            node.inputs[index] = gs.Constant(f"{tensor.name}_scalar_{node.name}", value.reshape(()))


def become_constants(node: gs.Node, values: list[np.ndarray]) -> None:
    """Turn the outputs of a node, which falls away, into constants."""
    outputs = list(node.outputs)
    detach([node])
    for tensor, value in zip(outputs, values, strict=True):
        if not tensor.is_empty():
            tensor.to_constant(np.asarray(value))


FOLD_CONSTANTS = GraphPass(
    "fold-constants",
    "Exporters write shapes, grids and masks that never change as nodes; TensorRT and fusions want them as constants.",
    apply,
)
