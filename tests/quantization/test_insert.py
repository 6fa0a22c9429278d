"""Where the pass puts Q/DQ nodes, what it leaves alone and why, on small graphs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto

from tests.graph.rewriting import op_types, text_model
from toolkit.errors import InputError
from toolkit.graph.equivalence import outputs_of
from toolkit.graph.provenance import MODEL_KEY, NODE_KEY
from toolkit.graph.signed_codes import sign_codes, unclip_codes
from toolkit.onnxruntime_options import session_options
from toolkit.quantization.candidates import find_candidates, plain_model, tensors_to_calibrate
from toolkit.quantization.insert import Quantized, quantize_model
from toolkit.quantization.ranges import TensorRange
from toolkit.quantization.scheme import LayerClass, QuantizationMode, Scheme

RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.uniform(-0.2, 0.2, (32, 32)).astype(np.float32)
KERNEL = RANDOM.uniform(-0.1, 0.1, (32, 32, 3, 3)).astype(np.float32)
BIAS = RANDOM.uniform(-1, 1, 32).astype(np.float32)
RANGE = TensorRange(-4.0, 4.0, 4.0)
INT8, FP8 = Scheme(QuantizationMode.INT8), Scheme(QuantizationMode.FP8)
Q, DQ = "QuantizeLinear", "DequantizeLinear"
COMPUTING = {"QLinearConv", "QLinearAdd", "MatMulIntegerToFloat", "Conv", "FusedConv", "Gemm", "MatMul"}

LINEAR = "m (float[2, 32] x) => (float[2, 32] y) { y = MatMul (x, weight) }"
CONVOLUTIONS = """m (float[1, 32, 10, 10] x) => (float[1, 32, 6, 6] y) {
    a = Conv (x, kernel, bias)
    b = Relu (a)
    y = Conv (b, kernel, bias)
}"""
RESIDUAL = """m (float[1, 32, 10, 10] x) => (float[1, 32, 10, 10] y) {
    a = Conv <pads: ints = [1, 1, 1, 1]> (x, kernel, bias)
    b = Relu (a)
    c = Conv <pads: ints = [1, 1, 1, 1]> (b, kernel, bias)
    d = Add (b, c)
    e = Relu (d)
    f = Conv <pads: ints = [1, 1, 1, 1]> (e, kernel, bias)
    y = Sigmoid (f)
}"""


def quantized(model: ModelProto | str, scheme: Scheme = INT8, **ranges: TensorRange) -> Quantized:
    """A model quantized with ranges of +-4, unless others are given; its text uses `weight`, `kernel` and so on."""
    if isinstance(model, str):
        model = plain_model(text_model(model, weight=WEIGHT, other=WEIGHT.T, kernel=KERNEL, bias=BIAS), ())
    tensors = tensors_to_calibrate(find_candidates(model, ()))
    return quantize_model(model, dict.fromkeys(tensors, RANGE) | ranges, scheme)


def loaded_ops(model: ModelProto, folder: Path) -> list[str]:
    """The operators that ONNX Runtime runs for a model, in their order."""
    options = session_options(threads=1)
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return op_types(onnx.load(folder / "optimized.onnx"))


def codes(model: ModelProto) -> set[int]:
    """The types of the zero points of QuantizeLinear nodes."""
    types = {weight.name: weight.data_type for weight in model.graph.initializer}
    return {types[node.input[2]] for node in model.graph.node if node.op_type == Q}


LAYERS = {
    "matrix product": (LINEAR, ["MatMulIntegerToFloat"]),
    "matrix product and bias": (
        "m (float[2, 5, 32] x) => (float[2, 5, 32] y) { p = MatMul (x, weight) y = Add (bias, p) }",
        ["MatMulIntegerToFloat"],
    ),
    "Gemm": ("m (float[2, 32] x) => (float[2, 32] y) { y = Gemm (x, weight, bias) }", ["MatMulIntegerToFloat"]),
    "transposed Gemm": (
        "m (float[2, 32] x) => (float[2, 32] y) { y = Gemm <transB: int = 1> (x, weight, bias) }",
        ["MatMulIntegerToFloat"],
    ),
    "convolution and Relu": (
        "m (float[1, 32, 8, 8] x) => (float[1, 32, 6, 6] y) { a = Conv (x, kernel, bias) y = Relu (a) }",
        ["QLinearConv"],
    ),
    "convolutions of one tensor": (
        """m (float[1, 32, 8, 8] x) => (float[1, 32, 6, 6] y, float[1, 32, 6, 6] z) {
            a = Conv (x, kernel) y = Relu (a)
            b = Conv (x, kernel, bias) z = Tanh (b)
        }""",
        ["QLinearConv", "QLinearConv"],
    ),
    "residual": (RESIDUAL, ["QLinearConv", "QLinearConv", "QLinearAdd", "QLinearConv"]),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_onnxruntime_finds_integer_kernels_for_int8(kind: str, tmp_path: Path) -> None:
    """All layers are computed in integers, and outputs are what they were but for the rounding."""
    text, kernels = LAYERS[kind]
    result = quantized(text)
    loaded = loaded_ops(result.model, tmp_path)
    assert [op for op in loaded if op in COMPUTING] == kernels
    assert max(deviation(text, result.model)) < 0.05


def deviation(text: str, model: ModelProto) -> list[float]:
    """How far a model is from the one of the text, on inputs within the range, relative to each output's largest."""
    original = text_model(text, weight=WEIGHT, kernel=KERNEL, bias=BIAS)
    [value] = original.graph.input
    shape = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
    inputs = {"x": np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)}
    before, after = outputs_of(original, inputs), outputs_of(model, inputs)
    return [float(np.abs(after[name] - array).max() / np.abs(array).max()) for name, array in before.items()]


@pytest.mark.parametrize("kind", LAYERS)
def test_fp8_rounds_inputs_and_weights_alone(kind: str) -> None:
    """ONNX Runtime has no FP8 kernels for the CPU: it computes with floats of the values that FP8 has."""
    text, _ = LAYERS[kind]
    result = quantized(text, FP8)
    assert codes(result.model) == {TensorProto.FLOAT8E4M3FN}
    assert "Sub" not in op_types(result.model)
    assert max(deviation(text, result.model)) < 0.1


def test_a_weight_has_a_scale_for_each_output_channel() -> None:
    [scale] = [w for w in quantized(LINEAR).model.graph.initializer if w.name == "weight_scale"]
    np.testing.assert_allclose(onnx.numpy_helper.to_array(scale), np.abs(WEIGHT).max(axis=0) / 127, rtol=1e-6)


def test_a_tensor_is_quantized_once_however_many_layers_read_it() -> None:
    text = "m (float[2, 32] x) => (float[2, 32] y, float[2, 32] z) { y = MatMul (x, weight) z = MatMul (x, weight) }"
    assert op_types(quantized(text).model).count(Q) == 1


def test_a_convolution_before_a_relu_has_the_range_behind_it() -> None:
    """What is negative is lost to the Relu anyway."""
    model = quantized(CONVOLUTIONS, b=TensorRange(0.0, 2.0, 2.0)).model
    scales = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer if w.name.endswith("_scale")}
    assert scales["a_scale"] == scales["b_scale"] == np.float32(2 / 127)


def test_an_output_of_the_model_is_not_rounded() -> None:
    """So the last convolution is not computed in integers on the CPU; a GPU does so all the same."""
    result = quantized(CONVOLUTIONS)
    assert len(result.nodes) == 2
    assert [node.op_type for node in result.model.graph.node if "y" in node.output] == ["Conv"]


def test_new_nodes_and_the_model_tell_the_pass() -> None:
    model = quantized(LINEAR).model
    made = {node.op_type: {e.key: e.value for e in node.metadata_props}.get(NODE_KEY) for node in model.graph.node}
    assert made == {Q: "int8", DQ: "int8", "MatMul": None}
    assert MODEL_KEY in {entry.key for entry in model.metadata_props}


def test_tensorrt_gets_signed_codes_of_the_same_numbers() -> None:
    """Activations are unsigned for ONNX Runtime, which has faster kernels for these."""
    model = quantized(RESIDUAL).model
    assert codes(model) == {TensorProto.UINT8}
    before = deviation(RESIDUAL, model)
    sign_codes(model)
    assert codes(model) == {TensorProto.INT8}
    onnx.checker.check_model(model, full_check=True)
    assert deviation(RESIDUAL, model) == pytest.approx(before, abs=0.01)


def test_a_relu_between_codes_of_one_scale_is_a_clip_of_them(tmp_path: Path) -> None:
    """To the last bit, and ONNX Runtime makes no floats before the end."""
    model = quantized(RESIDUAL).model
    assert op_types(model).count("Clip") == 2
    assert "Relu" not in op_types(model)
    loaded = [op for op in loaded_ops(model, tmp_path) if op != "Transpose"]
    assert loaded == [Q, *["QLinearConv", "Clip"], "QLinearConv", *["QLinearAdd", "Clip"], "QLinearConv", DQ, "Sigmoid"]
    relus = onnx.ModelProto.FromString(model.SerializeToString())
    unclip_codes(relus.graph)
    onnx.checker.check_model(relus, full_check=True)
    assert op_types(relus).count("Relu") == 2
    assert {node.name for node in model.graph.node} < {node.name for node in relus.graph.node}
    x = np.random.default_rng(1).uniform(-2, 2, (1, 32, 10, 10)).astype(np.float32)
    np.testing.assert_array_equal(outputs_of(model, {"x": x})["y"], outputs_of(relus, {"x": x})["y"])


def test_a_relu_that_more_than_codes_are_made_of_stays() -> None:
    """Its result is an output, or its range another than that of what it reads, or floats are read before it."""
    for text in (
        CONVOLUTIONS.replace("y) {", "y, float[1, 32, 8, 8] b) {"),
        CONVOLUTIONS.replace("y) {", "y, float[1, 32, 8, 8] z) {").replace("b = Relu (a)", "b = Relu (a) z = Abs (a)"),
    ):
        assert "Relu" in op_types(quantized(text).model)


def test_codes_of_others_keep_their_sign() -> None:
    """Zero is not in the middle, or another node reads the codes."""
    shifted = text_model(
        "m (float[4] x) => (float[4] y) { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }",
        s=np.float32(1),
        z=np.uint8(100),
    )
    read = text_model(
        "m (float[4] x) => (int32[4] y) { q = QuantizeLinear (x, s, z) y = Cast <to: int = 6> (q) }",
        s=np.float32(1),
        z=np.uint8(128),
    )
    for model in (shifted, read):
        before = model.SerializeToString()
        sign_codes(model)
        assert model.SerializeToString() == before


def test_a_quantized_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"quantized already: node .* \((Dequantize|Quantize)Linear\) is in it"):
        quantized(quantized(LINEAR).model)


KEPT = {
    "kept by name": (LINEAR, Scheme(QuantizationMode.INT8, keep=("MatMul*",)), {}, "kept by 'MatMul\\*'"),
    "not asked for": (
        "m (float[2, 32] x) => (float[2, 32] y) { a = MatMul (x, weight) y = Gemm (a, weight) }",
        Scheme(QuantizationMode.INT8, only=("Gemm",)),
        {},
        "not among the layers asked for",
    ),
    "of another class": (
        LINEAR,
        Scheme(QuantizationMode.INT8, classes=frozenset({LayerClass.CONVOLUTION})),
        {},
        "layers of the class 'linear' are not asked for",
    ),
    "attention": (
        "m (float[2, 32] x, float[32, 32] w) => (float[2, 32] y) { y = MatMul (x, w) }",
        INT8,
        {},
        "layers of the class 'product' are not asked for",
    ),
    "narrow": (
        "m (float[2, 32] x) => (float[2, 32] y) { a = MatMul (x, head) y = MatMul (a, back) }",
        INT8,
        {},
        "features on one side",
    ),
    "a narrow convolution": (
        "m (float[1, 32, 8, 8] x) => (float[1, 4, 6, 6] y) { y = Conv (x, mask) }",
        INT8,
        {},
        "a convolution to 4 channels",
    ),
    "never other than zero": (LINEAR, INT8, {"x": TensorRange(0.0, 0.0, 0.0)}, "'x' is zero in all of the calibration"),
}


@pytest.mark.parametrize("kind", KEPT)
def test_a_layer_that_is_left_alone_says_why(kind: str) -> None:
    text, scheme, ranges, reason = KEPT[kind]
    weights = {"weight": WEIGHT, "head": WEIGHT[:, :8], "back": WEIGHT[:8], "mask": KERNEL[:4]}
    model = plain_model(text_model(text, **weights), ())
    known = dict.fromkeys(tensors_to_calibrate(find_candidates(model, ())), RANGE) | ranges
    result = quantize_model(model, known, scheme)
    assert any(re.search(reason, why) for why in result.kept.values())


def test_a_tensor_that_was_not_calibrated_keeps_its_layer() -> None:
    model = plain_model(text_model(LINEAR, weight=WEIGHT), ())
    result = quantize_model(model, {}, INT8)
    assert result.nodes == ()
    assert "the range of its tensor 'x' is not known" in next(iter(result.kept.values()))


def test_products_of_activations_are_quantized_when_asked_for(tmp_path: Path) -> None:
    text = "m (float[2, 32] x) => (float[2, 2] y) { t = Transpose (x) y = MatMul (x, t) }"
    result = quantized(text, Scheme(QuantizationMode.INT8, only=("MatMul*",)))
    assert loaded_ops(result.model, tmp_path)[-1] == "MatMulIntegerToFloat"


UNKNOWN = {
    "nothing matches": (Scheme(QuantizationMode.INT8, keep=("head",)), "no node, op type or submodule matches 'head'"),
    "no 8-bit form": (
        Scheme(QuantizationMode.INT8, only=("Relu",)),
        r"Relu \(node 'Relu_\d'\) is to be quantized by 'Relu', but has no 8-bit form",
    ),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_patterns_must_mean_something(kind: str) -> None:
    scheme, message = UNKNOWN[kind]
    with pytest.raises(InputError, match=message):
        quantized(CONVOLUTIONS, scheme)


def test_candidates_have_a_class_and_the_tensors_to_calibrate() -> None:
    model = plain_model(text_model(CONVOLUTIONS, kernel=KERNEL, bias=BIAS), ())
    first, second = find_candidates(model, ())
    assert (first.op, first.layer_class, first.tensors) == ("Conv", LayerClass.CONVOLUTION, ("x", "b"))
    assert second.tensors == ("b",)


@pytest.mark.parametrize("layer", ["Gemm (x, weight, one)", "MatMul (x, weight) y = Add (one, a)"], ids=["Gemm", "Add"])
def test_a_bias_without_dimensions(layer: str) -> None:
    """It is one number for all features."""
    text = f"m (float[2, 32] x) => (float[2, 32] y) {{ {'a' if 'Add' in layer else 'y'} = {layer} }}"
    model = plain_model(text_model(text, weight=WEIGHT, one=np.float32(2).reshape(())), ())
    made = quantize_model(model, {"x": RANGE}, INT8)
    x = RANDOM.uniform(-4, 4, (2, 32)).astype(np.float32)
    [y] = outputs_of(made.model, {"x": x}).values()
    np.testing.assert_allclose(y, x @ WEIGHT + 2, atol=0.1)
