"""What is not quantized, in FP16: the precision pass over a quantized model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto

from tests.graph.rewriting import text_model
from tests.quantization.test_insert import BIAS, FP8, INT8, KERNEL, RESIDUAL, WEIGHT, quantized
from toolkit.graph.equivalence import outputs_of
from toolkit.graph.pipeline import run_passes
from toolkit.graph.precision.policy import FP16
from toolkit.graph.precision.precision_pass import precision_pass
from toolkit.quantization.candidates import plain_model
from toolkit.quantization.scheme import Scheme

NORMALISED = """m (float[2, 32] x) => (float[2, 32] y) {
    a = Softmax (x)
    b = MatMul (a, weight)
    c = Add (b, bias)
    d = Sigmoid (c)
    e = MatMul (d, other)
    y = Add (e, x)
}"""


def types(model: ModelProto) -> dict[str, int]:
    """Element type of every tensor, as ONNX infers it; it refuses inconsistent ones."""
    onnx.checker.check_model(model, full_check=True)
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def layers(model: ModelProto) -> Iterator[tuple[NodeProto, list[str]]]:
    """Convolutions and products, and the operators that make their inputs."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in ("Conv", "MatMul"):
            yield node, [makers.get(name, "") for name in node.input[:2]]


@pytest.mark.parametrize("text", [RESIDUAL, NORMALISED])
@pytest.mark.parametrize("scheme", [INT8, FP8])
def test_quantized_layers_give_fp16_and_no_cast_is_before_them(text: str, scheme: Scheme) -> None:
    result = quantized(text, scheme)
    model, _ = run_passes(result.model, [precision_pass(FP16)], ())
    known = types(model)
    for node, makers in layers(model):
        assert makers == ["DequantizeLinear", "DequantizeLinear"]
        assert known[node.output[0]] == TensorProto.FLOAT16
    assert [value.type.tensor_type.elem_type for value in model.graph.output] == [TensorProto.FLOAT]


def test_layers_of_a_scale_that_fp16_cannot_hold_stay_in_fp32_together() -> None:
    """Two layers share a tensor, and the weight of one is so small that its scales are."""
    text = "m (float[2, 32] x) => (float[2, 32] y, float[2, 32] z) { y = MatMul (x, weight) z = MatMul (x, other) }"
    model = plain_model(text_model(text, weight=WEIGHT, other=WEIGHT * np.float32(1e-5)), ())
    reduced, [run] = run_passes(quantized(model).model, [precision_pass(FP16)], ())
    assert [makers for _, makers in layers(reduced)] == [["DequantizeLinear"] * 2] * 2
    assert {types(reduced)[name] for node, _ in layers(reduced) for name in node.input} == {TensorProto.FLOAT}
    assert "FP16 cannot hold a scale" in run.outcome.near_misses[-1].reason


def test_a_quantized_layer_that_is_to_stay_in_fp32_has_no_cast_either() -> None:
    result = quantized(NORMALISED)
    first = result.nodes[0]
    policy = precision_pass(replace(FP16, keep=(first,)))
    model, _ = run_passes(result.model, [policy], ())
    known = types(model)
    assert [makers for _, makers in layers(model)] == [["DequantizeLinear"] * 2] * 2
    assert [known[node.output[0]] for node, _ in layers(model)] == [TensorProto.FLOAT, TensorProto.FLOAT16]


def test_numbers_stay_close() -> None:
    result = quantized(RESIDUAL)
    model, _ = run_passes(result.model, [precision_pass(FP16)], ())
    x = np.random.default_rng(1).uniform(-1, 1, (1, 32, 10, 10)).astype(np.float32)
    expected = outputs_of(text_model(RESIDUAL, weight=WEIGHT, kernel=KERNEL, bias=BIAS), {"x": x})["y"]
    np.testing.assert_allclose(outputs_of(model, {"x": x})["y"], expected, atol=0.05)
