"""Running graph passes over small models, in text form or exported from torch, with the pipeline's own checks."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import torch
from numpy.typing import ArrayLike
from onnx import ModelProto

from toolkit.conversion.export import quiet_exporter
from toolkit.graph.graph_pass import GraphPass, Outcome
from toolkit.graph.pipeline import rewrite
from toolkit.plugin.manager import PluginManager

OPSET = 18
"""Of models made here, unless a test says otherwise."""


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


def exported(
    module: torch.nn.Module, inputs: tuple[Any, ...], *, dynamo: bool = False, opset: int = OPSET, **options: Any
) -> ModelProto:
    """A model exported from torch by the legacy exporter, or by dynamo."""
    with quiet_exporter(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        torch.onnx.export(
            module.eval(),
            inputs,
            file,
            dynamo=dynamo,
            opset_version=opset,
            external_data=False,
            verbose=False,
            **options,
        )
        return onnx.load(file)


def rewritten(model: ModelProto | str, graph_pass: GraphPass, *, compare: bool = True) -> tuple[ModelProto, Outcome]:
    """The functional model after one pass, and what the pass says; a text is a model of opset 18.

    Raises CheckFailed if the pass breaks the model. With `compare`, ONNX Runtime must be able to run it before.
    """
    model = text_model(model) if isinstance(model, str) else model
    result = rewrite(model, [graph_pass], PluginManager.load().custom_ops())
    if compare:
        assert result.checks[0].startswith("equal"), result.checks
    [run] = result.log
    return result.model, run.outcome


def op_types(model: ModelProto) -> list[str]:
    """Operators of the outermost graph, in order."""
    return [node.op_type for node in model.graph.node]
