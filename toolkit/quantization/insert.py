"""The graph pass that quantizes: explicit Q/DQ nodes around the layers that a scheme chooses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import ModelProto

from toolkit.errors import InputError
from toolkit.graph.edits import constant
from toolkit.graph.graph_pass import Change, GraphPass, Outcome
from toolkit.graph.pipeline import run_passes
from toolkit.graph.provenance import every_node, record_passes
from toolkit.ops.spec import CustomOp
from toolkit.quantization.candidates import Candidate, candidate_of, plain_model
from toolkit.quantization.choice import reason_to_keep, require_patterns
from toolkit.quantization.codes import DTYPES, scale_of, weight_codes
from toolkit.quantization.ranges import Ranges
from toolkit.quantization.scheme import LayerClass, QuantizationMode, Scheme

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


@dataclass(frozen=True)
class Quantized:
    """A quantized model, the names of the layers that compute with 8 bits, and why others that could do not."""

    model: ModelProto
    nodes: tuple[str, ...]
    kept: Mapping[str, str]


def quantize_model(model: ModelProto, ranges: Ranges, scheme: Scheme, ops: Sequence[CustomOp] = ()) -> Quantized:
    """Quantize a model by the ranges of its tensors, as `plain_model` names them; it stays as it is itself.

    Raises InputError for a model that is quantized already, and for patterns of the scheme that match nothing or ask
    for nodes without an 8-bit form.
    """
    result, [run] = run_passes(plain_model(model, ops), [quantization_pass(ranges, scheme)], ops)
    record_passes(result, [run])
    kept = {miss.node: miss.reason for miss in run.outcome.near_misses}
    return Quantized(result, tuple(change.node for change in run.outcome.changes), kept)


def quantization_pass(ranges: Ranges, scheme: Scheme) -> GraphPass:
    """The pass that a scheme asks for. It raises InputError as `quantize_model` does."""
    return GraphPass(
        name=scheme.mode.value,
        reason="Products of 8-bit numbers take a half or a quarter of the time, and a quarter of the memory.",
        apply=lambda graph: quantize(graph, ranges, scheme),
        default=False,
        tolerance=math.inf,
        measured=True,
    )


def quantize(graph: gs.Graph, ranges: Ranges, scheme: Scheme) -> Outcome:
    """Put Q/DQ nodes before the layers that a scheme chooses: a scale for an activation, one a channel for a weight."""
    require_unquantized(graph)
    candidates = {node.name: found for node in graph.nodes if (found := candidate_of(node))}
    require_patterns(graph, candidates, scheme)
    inserter = Inserter(graph, ranges, scheme.mode)
    changes, near_misses = [], []
    for node in [node for node in graph.nodes if node.name in candidates]:
        candidate = candidates[node.name]
        if miss := reason_to_keep(node, candidate, ranges, scheme):
            near_misses.append(miss)
        else:
            inserter.quantize(node, candidate)
            changes.append(Change(node.name, f"{scheme.mode.value.upper()} {candidate.layer_class.value}"))
    return Outcome(tuple(changes), tuple(near_misses))


def require_unquantized(graph: gs.Graph) -> None:
    """Raise InputError for a graph with Q/DQ nodes."""
    found = next((node for node in every_node(graph) if node.op in ("QuantizeLinear", "DequantizeLinear")), None)
    if found is not None:
        raise InputError(
            f"the model is quantized already: node {found.name!r} is {found.op}; quantize the one that it was made of"
        )


class Inserter:
    """Q/DQ nodes of a graph: one pair for a tensor, one DequantizeLinear for a weight, however many layers read it."""

    def __init__(self, graph: gs.Graph, ranges: Ranges, mode: QuantizationMode) -> None:
        self._graph, self._ranges, self._mode = graph, ranges, mode
        self._made: dict[tuple[int, int | None], gs.Variable] = {}
        self._names = {*graph.tensors(), *(node.name for node in graph.nodes)}

    def quantize(self, node: gs.Node, candidate: Candidate) -> None:
        """Let a layer read quantized tensors."""
        node.inputs[0] = self._activation(node.inputs[0])
        if candidate.layer_class is LayerClass.PRODUCT:
            node.inputs[1] = self._activation(node.inputs[1])
        else:
            node.inputs[1] = self._weight(node.inputs[1], channel_axis(node))

    def _activation(self, tensor: gs.Tensor) -> gs.Variable:
        import onnx_graphsurgeon as gs

        key = id(tensor), None
        if key not in self._made:
            scale = scale_of(self._ranges[tensor.name].threshold, self._mode)
            codes = gs.Variable(self._free(f"{tensor.name}_quantized"), DTYPES[self._mode], tensor.shape)
            parameters = self._parameters(tensor.name, scale)
            self._node("QuantizeLinear", [tensor, *parameters], codes)
            self._made[key] = self._dequantized(tensor, [codes, *parameters])
        return self._made[key]

    def _weight(self, tensor: gs.Constant, axis: int) -> gs.Variable:
        import onnx_graphsurgeon as gs

        key = id(tensor), axis
        if key not in self._made:
            values = constant(tensor)
            assert values is not None  # of a layer with a weight
            codes, scales = weight_codes(values, axis, self._mode)
            stored = gs.Constant(self._free(f"{tensor.name}_quantized"), codes)
            self._made[key] = self._dequantized(tensor, [stored, *self._parameters(tensor.name, scales)], axis=axis)
        return self._made[key]

    def _parameters(self, name: str, scale: np.ndarray) -> list[gs.Constant]:
        import onnx_graphsurgeon as gs

        zero = np.zeros(scale.shape, DTYPES[self._mode])
        return [gs.Constant(self._free(f"{name}_scale"), scale), gs.Constant(self._free(f"{name}_zero_point"), zero)]

    def _dequantized(self, tensor: gs.Tensor, inputs: Sequence[gs.Tensor], **attributes: int) -> gs.Variable:
        import onnx_graphsurgeon as gs

        output = gs.Variable(self._free(f"{tensor.name}_dequantized"), np.dtype(np.float32), tensor.shape)
        self._node("DequantizeLinear", inputs, output, **attributes)
        return output

    def _node(self, op: str, inputs: Sequence[gs.Tensor], output: gs.Variable, **attributes: int) -> None:
        import onnx_graphsurgeon as gs

        name = self._free(f"{output.name}/{op}")
        self._graph.nodes.append(gs.Node(op, name, attributes, list(inputs), [output]))

    def _free(self, name: str) -> str:
        """The name, or with a number if it is taken."""
        number, free = 1, name
        while free in self._names:
            number, free = number + 1, f"{name}_{number + 1}"
        self._names.add(free)
        return free


def channel_axis(node: gs.Node) -> int:
    """The axis of a layer's weight that is its output channels."""
    return 0 if node.op == "Conv" or (node.op == "Gemm" and node.attrs.get("transB", 0)) else 1
