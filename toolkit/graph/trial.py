"""Trying a pass on small models, as its tests do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx.parser
from numpy.typing import ArrayLike
from onnx import ModelProto

from toolkit.errors import CheckFailed
from toolkit.graph.graph_pass import GraphPass, Outcome
from toolkit.graph.pipeline import rewrite
from toolkit.ops.spec import CustomOp

OPSET = 18
"""Of models made here, unless another is given."""


def text_model(text: str, opset: int = OPSET, /, **weights: ArrayLike) -> ModelProto:
    """A model from its graph in ONNX text syntax, such as ``m (float[2] x) => (float[2] y) { y = Relu (x) }``.

    `weights` become initializers, which the text uses by their names.
    """
    domains = f'"": {opset}, "uniad": 1, "com.microsoft": 1, "TRT": 1, "mmdeploy": 1'
    model = onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{domains}]> {text}")
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()
    )
    return model


def try_pass(
    model: ModelProto | str, graph_pass: GraphPass, ops: Sequence[CustomOp] = (), *, compare: bool = True
) -> tuple[ModelProto, Outcome]:
    """The functional model after one pass, and what the pass says; a text is for `text_model`.

    `ops` are what nodes of domain ``uniad`` may be. Raises CheckFailed if the pass breaks the model and, with
    `compare`, if ONNX Runtime cannot run it before.
    """
    model = text_model(model) if isinstance(model, str) else model
    result = rewrite(model, [graph_pass], ops)
    [run], [finding] = result.log, result.checks
    if compare and not finding.startswith("equal"):
        raise CheckFailed(finding)
    return result.model, run.outcome


def op_types(model: ModelProto) -> list[str]:
    """Operators of the outermost graph, in order."""
    return [node.op_type for node in model.graph.node]
