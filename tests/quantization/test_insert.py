"""Where the pass puts Q/DQ nodes, what it leaves alone and why, on small graphs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from tests.graph.rewriting import op_types, text_model
from toolkit.errors import InputError
from toolkit.graph.equivalence import outputs_of
from toolkit.quantization.candidates import find_candidates, plain_model, tensors_to_calibrate
from toolkit.quantization.insert import Quantized, quantize_model
from toolkit.quantization.ranges import TensorRange
from toolkit.quantization.scheme import LayerClass, QuantizationMode, Scheme

RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.standard_normal((32, 32)).astype(np.float32)
KERNEL = RANDOM.standard_normal((32, 32, 3, 3)).astype(np.float32)
INT8 = Scheme(QuantizationMode.INT8)
CONV = "m (float[1, 32, 8, 8] x) => (float[1, 32, 6, 6] y) { c = Conv (x, kernel) y = Relu (c) }"
LINEAR = "m (float[2, 32] x) => (float[2, 32] y) { y = MatMul (x, weight) }"


def quantized(model: ModelProto | str, scheme: Scheme = INT8, **weights: np.ndarray) -> Quantized:
    """A model quantized with the range of +-4 for each tensor; it has a `weight` and a `kernel` besides those given."""
    if isinstance(model, str):
        model = plain_model(text_model(model, weight=WEIGHT, kernel=KERNEL, **weights), ())
    tensors = tensors_to_calibrate(find_candidates(model, ()))
    return quantize_model(model, dict.fromkeys(tensors, TensorRange(-4.0, 4.0, 4.0)), scheme)


@pytest.mark.parametrize("mode", QuantizationMode)
def test_a_linear_layer_reads_what_is_quantized(mode: QuantizationMode) -> None:
    """It computes what it did but for the rounding."""
    result = quantized(LINEAR, Scheme(mode))
    assert len(result.nodes) == 1
    x = RANDOM.uniform(-4, 4, (2, 32)).astype(np.float32)
    np.testing.assert_allclose(outputs_of(result.model, {"x": x})["y"], x @ WEIGHT, atol=1.0)


def test_a_quantized_model_is_refused() -> None:
    with pytest.raises(InputError, match="quantized already"):
        quantized(quantized(LINEAR).model)


def test_what_has_no_8_bit_form_cannot_be_asked_for() -> None:
    with pytest.raises(InputError, match=r"Relu .* is to be quantized by 'Relu', but has no 8-bit form"):
        quantized(CONV, Scheme(QuantizationMode.INT8, only=("Relu",)))


def test_candidates_have_a_class_and_the_tensors_to_calibrate() -> None:
    model = plain_model(text_model(CONV, kernel=KERNEL), ())
    [candidate] = find_candidates(model, ())
    assert (candidate.op, candidate.layer_class) == ("Conv", LayerClass.CONVOLUTION)
    assert candidate.tensors == ("x", "y")
    assert op_types(model) == ["Conv", "Relu"]
