"""`rewrite --quantize`: any model, with the ranges that its tensors have on a few inputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.graph.rewriting import op_types, text_model
from tests.quantization.test_insert import BIAS, KERNEL, WEIGHT, codes
from toolkit.bounded.limits import Limits
from toolkit.bounded.process import BoundedProcess
from toolkit.cli.main import run
from toolkit.quantization.observation import observe
from toolkit.quantization.ranges import TensorRange

NETWORK = """m (float[1, 32, 10, 10] x) => (float[1, 64, 32] features, float[1, 64, 8] scores) {
    a = Conv (x, kernel, bias)
    b = Relu (a)
    c = Reshape (b, rows)
    d = Transpose <perm: ints = [0, 2, 1]> (c)
    e = MatMul (d, weight)
    features = Add (e, bias)
    s = MatMul (features, head)
    scores = Sigmoid (s)
}"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A network with a convolution, a linear layer, and a head that is too narrow to be quantized."""
    rows = np.array([1, 32, 64])
    path = tmp_path / "model.onnx"
    onnx.save(text_model(NETWORK, kernel=KERNEL, bias=BIAS, weight=WEIGHT, head=WEIGHT[:, :8], rows=rows), path)
    return path


def test_ranges_are_those_of_the_inputs_given(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).uniform(-3, 2, (1, 32, 10, 10)).astype(np.float32)
    np.savez(model.with_name("x.npz"), x=x)
    output = model.with_name("int8.onnx")
    arguments = ["--quantize", "int8", "--check-inputs", str(model.with_name("x.npz")), "--explain"]
    assert run(["rewrite", str(model), "-o", str(output), *arguments]) == 0
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in onnx.load(output).graph.initializer}
    assert weights["x_scale"] == np.float32(np.abs(x).max() / 127)
    said = " ".join(capsys.readouterr().out.split())
    assert "INT8 in 2 of 3 layers, by ranges on the inputs given" in said
    assert "measured in ONNX Runtime on the inputs given" in said
    assert "a product with 8 features on one side" in said
    for name in ("features", "scores"):
        assert name in said


def test_without_inputs_the_ranges_are_of_random_ones(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the plugin form, which is for TensorRT, codes are signed."""
    output = model.with_name("int8.onnx")
    assert run(["rewrite", str(model), "-o", str(output), "--quantize", "int8", "--form", "plugin", "--no-check"]) == 0
    assert "by ranges on random inputs, which say little" in " ".join(capsys.readouterr().out.split())
    assert codes(onnx.load(output)) == {TensorProto.INT8}


def test_fp8_and_fp16(model: Path) -> None:
    """What is not quantized takes the type of --precision."""
    output = model.with_name("fp8.onnx")
    assert run(["rewrite", str(model), "-o", str(output), "--quantize", "fp8", "--precision", "fp16"]) == 0
    written = onnx.load(output)
    assert codes(written) == {TensorProto.FLOAT8E4M3FN}
    assert {w.data_type for w in written.graph.initializer if w.name.startswith("bias")} == {TensorProto.FLOAT16}
    recorded = {entry.key: entry.value for entry in written.metadata_props}["uniad.passes"]
    assert [entry["pass"] for entry in json.loads(recorded)][-2:] == ["fp8", "fp16"]


def test_patterns_choose_layers(model: Path) -> None:
    output = model.with_name("int8.onnx")
    for choice in (["--keep", "MatMul"], ["--only", "Conv"]):
        assert run(["rewrite", str(model), "-o", str(output), "--quantize", "int8", *choice, "--no-check"]) == 0
        assert "Add" in op_types(onnx.load(output))
        assert op_types(onnx.load(output)).count("QuantizeLinear") == 2


def test_too_large_a_deviation_is_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = model.with_name("int8.onnx")
    arguments = ["--quantize", "int8", "--tolerance", "1e-6"]
    assert run(["rewrite", str(model), "-o", str(output), *arguments]) == 1
    assert "--tolerance allows 1.0e-06" in capsys.readouterr().err
    assert not output.exists()


REFUSED = {
    "no integer form": (["--only", "Sigmoid"], "is to be quantized by 'Sigmoid', but has no 8-bit form"),
    "no such layer": (["--keep", "backbone"], "no node, op type or submodule matches 'backbone'"),
    "only a narrow layer": (["--only", "MatMul_*", "--keep", "MatMul_4"], "no layer of the model can be quantized"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_done_is_one_line(kind: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choice, message = REFUSED[kind]
    output = model.with_name("int8.onnx")
    assert run(["rewrite", str(model), "-o", str(output), "--quantize", "int8", *choice, "--no-check"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not output.exists()


def test_a_quantized_model_is_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = model.with_name("int8.onnx")
    assert run(["rewrite", str(model), "-o", str(output), "--quantize", "int8", "--no-check"]) == 0
    again = ["rewrite", str(output), "-o", str(model.with_name("again.onnx")), "--quantize", "fp8"]
    assert run(again) == 2
    assert "the model is quantized already: node" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--keep", "--only"])
def test_options_that_need_quantize(option: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rewrite", str(model), "-o", str(model.with_name("y.onnx")), option, "Conv"]) == 2
    assert f"{option} is of no use without --quantize" in " ".join(capsys.readouterr().err.split())


def test_ranges_of_tensors_and_what_is_not_finite() -> None:
    """Of which one value is infinite, and of which one is NaN, which ends may pass over."""
    model = text_model(
        "m (float[4] x) => (float[4] y, float[4] z) { a = Neg (x) y = Log (a) b = Div (a, a) z = Neg (b) }"
    )
    with BoundedProcess(Limits(20, 10**9)) as process:
        ranges = observe(model, ["x", "a", "y", "z"], process, {"x": np.array([-3, -1, 0, 2], np.float32)})
    assert ranges == {"x": TensorRange(-3.0, 2.0, 3.0), "a": TensorRange(-2.0, 3.0, 3.0)}


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full((2, 32), np.nan, np.float32), "input 'x' of --check-inputs holds NaN or infinity"),
        (np.full((2, 32), np.inf, np.float32), "input 'x' of --check-inputs holds NaN or infinity"),
        (np.zeros((0, 32), np.float32), "input 'x' of --check-inputs has no values"),
        (np.zeros((2, 32), np.float32), "its tensor 'x' is zero in all of the calibration"),
    ],
    ids=["NaN", "infinity", "empty", "zero"],
)
def test_inputs_that_show_no_range(
    x: np.ndarray, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(text_model("m (float[N, 32] x) => (float[N, 32] y) { y = MatMul (x, w) }", w=WEIGHT), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=x)
    arguments = ["--quantize", "int8", "--check-inputs", str(tmp_path / "x.npz"), "-o", str(tmp_path / "o.onnx")]
    assert run(["rewrite", str(tmp_path / "m.onnx"), *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "o.onnx").exists()


UNFIT = {
    "FP16": ("m (float16[2, 32] x) => (float16[2, 32] y) { y = MatMul (x, half) }", "its layers are not of FP32; give"),
    "no layers": (
        "m (float[2, 32] x) => (float[2, 32] y) { y = Sigmoid (x) }",
        "it has no Conv, ConvTranspose, Gemm or",
    ),
    "weight before": (
        "m (float[32, 2] x) => (float[32, 2] y) { y = MatMul (w, x) }",
        "such as the MatMul 'MatMul_0': there",
    ),
    "scaled": (
        "m (float[2, 32] x) => (float[2, 32] y) { y = Gemm <alpha = 0.5> (x, w) }",
        "such as the Gemm 'Gemm_0': ",
    ),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_models_without_a_layer_that_has_a_form(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, message = UNFIT[kind]
    onnx.save(text_model(text, w=WEIGHT, half=WEIGHT.astype(np.float16)), tmp_path / "m.onnx")
    arguments = ["--quantize", "int8", "--no-check", "-o", str(tmp_path / "o.onnx")]
    assert run(["rewrite", str(tmp_path / "m.onnx"), *arguments]) == 2
    assert "no layer of the model can be quantized" in (said := " ".join(capsys.readouterr().err.split()))
    assert message in said
