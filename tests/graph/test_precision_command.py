"""The options of `rewrite` for reduced precision and the reference deployment's interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.graph.rewriting import text_model
from toolkit.cli.main import run

WEIGHT = np.linspace(-1, 1, 32 * 32, dtype=np.float32).reshape(32, 32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A convolution-free network of one product and a softmax."""
    path = tmp_path / "model.onnx"
    onnx.save(
        text_model(
            "m (float[4, 32] x) => (float[4, 32] y) { a = MatMul (x, weight) b = MatMul (a, weight) y = Softmax (b) }",
            weight=WEIGHT,
        ),
        path,
    )
    return path


@pytest.mark.parametrize(
    ("precision", "stored", "opset"), [("fp16", TensorProto.FLOAT16, 18), ("bf16", TensorProto.BFLOAT16, 22)]
)
def test_precision(model: Path, precision: str, stored: int, opset: int, capsys: pytest.CaptureFixture[str]) -> None:
    output = model.with_name("reduced.onnx")
    assert run(["rewrite", str(model), "-o", str(output), "--precision", precision, "--explain"]) == 0
    written = onnx.load(output)
    assert [weight.data_type for weight in written.graph.initializer] == [stored]
    assert [entry.version for entry in written.opset_import if not entry.domain] == [opset]
    assert f"{precision.upper()} in 2 of 3 nodes" in " ".join(capsys.readouterr().out.split())


def test_nodes_are_kept(model: Path) -> None:
    output = model.with_name("reduced.onnx")
    assert run(["rewrite", str(model), "-o", str(output), "--precision", "fp16", "--keep-fp32", "MatMul"]) == 0
    assert [node.op_type for node in onnx.load(output).graph.node] == ["MatMul", "MatMul", "Softmax"]


REFUSED = {
    "unknown type": (["--precision", "fp8"], "fp16"),
    "no such node": (
        ["--precision", "fp16", "--keep-fp32", "hed"],
        "'hed' is to stay in FP32, but no node, op type or submodule matches it",
    ),
    "nothing reduced": (["--keep-fp32", "MatMul"], "--keep-fp32 is of no use without --precision"),
    "another network": (["--io", "nvidia"], "the model has no input 'image'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_options(case: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused in one line, and nothing is written."""
    options, message = REFUSED[case]
    output = model.with_name("reduced.onnx")
    assert run(["rewrite", str(model), "-o", str(output), *options]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()
