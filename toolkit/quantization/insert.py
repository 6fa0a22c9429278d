"""The graph pass that quantizes: explicit Q/DQ nodes around the layers that a scheme chooses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import ModelProto

from toolkit.errors import InputError
from toolkit.graph.graph_pass import Change, GraphPass, Outcome
from toolkit.graph.pipeline import run_passes
from toolkit.graph.provenance import record_passes
from toolkit.graph.topology import label
from toolkit.onnx_nodes import all_nodes
from toolkit.ops.spec import CustomOp
from toolkit.quantization.candidates import candidates_in, plain_model
from toolkit.quantization.choice import reason_to_keep, require_patterns
from toolkit.quantization.inserter import Inserter
from toolkit.quantization.ranges import Ranges
from toolkit.quantization.scheme import Scheme

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


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
    require_unquantized(model)
    result, [run] = run_passes(plain_model(model, ops), [quantization_pass(ranges, scheme)], ops)
    record_passes(result, [run])
    kept = {miss.node: miss.reason for miss in run.outcome.near_misses}
    return Quantized(result, tuple(change.node for change in run.outcome.changes), kept)


def quantization_pass(ranges: Ranges, scheme: Scheme) -> GraphPass:
    """The pass that a scheme asks for. It raises InputError for patterns that do not fit the graph."""
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
    candidates = candidates_in(graph)
    require_patterns(graph, candidates, scheme)
    inserter = Inserter(graph, ranges, scheme.mode)
    changes, near_misses = [], []
    for node in list(graph.nodes):
        candidate = candidates.get(node.name)
        if candidate is None:
            inserter.quantize_sum(node)
        elif miss := reason_to_keep(node, candidate, ranges, scheme):
            near_misses.append(miss)
        else:
            inserter.quantize(node, candidate)
            changes.append(Change(node.name, f"{scheme.mode.value.upper()} {candidate.layer_class.value}"))
    inserter.clip_codes()
    return Outcome(tuple(changes), tuple(near_misses))


def require_unquantized(model: ModelProto) -> None:
    """Raise InputError for a model with Q/DQ nodes."""
    bodies = (node for function in model.functions for node in function.node)
    found = next((node for node in all_nodes([*model.graph.node, *bodies]) if node.op_type in QUANTIZERS), None)
    if found is not None:
        raise InputError(
            f"the model is quantized already: {label(found)} is in it; quantize the one that it was made of"
        )
