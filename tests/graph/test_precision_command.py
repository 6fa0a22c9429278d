"""The options of `rewrite` for reduced precision and the reference deployment's interface."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.graph.rewriting import text_model
from toolkit.bounded.limits import Limits
from toolkit.bounded.process import BoundedProcess
from toolkit.cli.main import run
from toolkit.graph.proof import deviations_of

pytestmark = pytest.mark.thorough

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


def test_deviations_are_measured_and_shown(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They refuse nothing."""
    assert run(["rewrite", str(model), "-o", str(model.with_name("reduced.onnx")), "--precision", "fp16"]) == 0
    shown = capsys.readouterr().out
    assert "measured in ONNX Runtime on random inputs: outputs deviate by up to" in shown
    [(output, deviation)] = re.findall(r"│ (y) +│ +(\S+) │", shown)
    assert (output, 0 < float(deviation) < 0.05) == ("y", True)


def test_types_that_onnx_runtime_lacks_are_not_compared(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rewrite", str(model), "-o", str(model.with_name("reduced.onnx")), "--precision", "bf16"]) == 0
    assert "not compared: ONNX Runtime cannot run the result: NotImplemented" in capsys.readouterr().out


TOLERANCES = {
    "met": ("fp16", "0.1", 0, ""),
    "exceeded": ("fp16", "1e-9", 1, "of its largest value, --tolerance allows 1.0e-09; nothing was written"),
    "not known": ("bf16", "0.1", 1, "cannot be held to --tolerance, for it was not compared"),
}


@pytest.mark.parametrize("case", TOLERANCES)
def test_a_tolerance_refuses(case: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    precision, tolerance, status, message = TOLERANCES[case]
    output = model.with_name("reduced.onnx")
    line = ["rewrite", str(model), "-o", str(output), "--precision", precision, "--tolerance", tolerance]
    assert run(line) == status
    assert message in capsys.readouterr().err
    assert output.exists() == (status == 0)


def test_what_takes_too_long_is_not_compared() -> None:
    """No tolerance being asked for, it is no reason to refuse."""
    relu = text_model("m (float[2] x) => (float[2] y) { y = Relu (x) }")
    with BoundedProcess(Limits(0.001, 10**9)) as process:
        examination = deviations_of(relu, relu, process)
    assert not examination.fault
    assert examination.finding == "not compared: running the model before and after did not end within 0.001 s"


REFUSED = {
    "unknown type": (["--precision", "fp8"], "fp16"),
    "no such node": (
        ["--precision", "fp16", "--keep-fp32", "hed"],
        "'hed' is to stay in FP32, but no node, op type or submodule matches it",
    ),
    "nothing reduced": (["--keep-fp32", "MatMul"], "--keep-fp32 is of no use without --precision"),
    "nothing to tolerate": (["--tolerance", "0.1"], "--tolerance is of no use without --precision"),
    "nothing measured": (
        ["--precision", "fp16", "--tolerance", "0.1", "--no-check"],
        "--tolerance is of no use with --no-check",
    ),
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
