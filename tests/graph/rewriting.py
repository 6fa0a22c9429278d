"""Running graph passes over small models, in text form or exported from torch, with the pipeline's own checks."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto

from toolkit.conversion.export import quiet_exporter
from toolkit.graph.graph_pass import GraphPass, Outcome
from toolkit.graph.trial import OPSET, op_types, text_model, try_pass
from toolkit.plugin.manager import PluginManager

__all__ = ["exported", "op_types", "rewritten", "text_model"]


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
    """What `try_pass` says, with all custom ops."""
    return try_pass(model, graph_pass, PluginManager.load().custom_ops(), compare=compare)
