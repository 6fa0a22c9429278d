"""A detector of the Hugging Face library is fused and quantized in one run, and checked against what it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tests.graph.rewriting import exported, op_types
from tests.quantization.test_insert import loaded_ops
from toolkit.cli.main import run

pytest.importorskip("transformers")
from tests.graph import third_party_models as models

pytestmark = pytest.mark.slow


def test_a_detector_is_fused_quantized_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Convolutions run in integers, and every output's deviation is told."""
    torch.manual_seed(0)
    module, inputs = models.rt_detr_v2()
    model = exported(module, inputs)
    onnx.save(model, tmp_path / "model.onnx")
    names = [value.name for value in model.graph.input]
    np.savez(tmp_path / "x.npz", **dict(zip(names, (given.numpy() for given in inputs), strict=True)))
    output = tmp_path / "int8.onnx"
    arguments = ["--quantize", "int8", "--check-inputs", str(tmp_path / "x.npz"), "--explain"]
    assert run(["rewrite", str(tmp_path / "model.onnx"), "-o", str(output), *arguments]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert all(value.name in said for value in model.graph.output)
    assert "by ranges on the inputs given" in said
    written = onnx.load(output)
    assert op_types(written).count("MultiScaleDeformableAttention") == 2
    loaded = loaded_ops(written, tmp_path)
    assert loaded.count("QLinearConv") >= 0.9 * op_types(model).count("Conv")
    assert "MatMulIntegerToFloat" in loaded
