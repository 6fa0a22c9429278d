"""Which linear layers become calls of the toolkit's kernels, in each precision, and that results stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.toolkit.engines.gpu.kernel_passes import OURS, Function, apply, argument, x
from toolkit.engines.gpu.compiled.operators import REDUCED
from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, calls
from toolkit.engines.gpu.compiled.passes.use_convolution import use_convolution
from toolkit.engines.gpu.compiled.passes.use_linear import LARGE, use_linear
from toolkit.precision import Precision

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 32), (2, 3, 64)])
@pytest.mark.parametrize("precision", Precision)
def test_linear_layers(shape: tuple[int, ...], bias: bool, precision: Precision) -> None:
    count, gm = apply(use_linear, nn.Linear(shape[-1], 7, bias=bias), x(*shape), precision=precision)
    assert count == 1
    (layer,) = calls(gm, OURS.linear.default)
    assert argument(layer, "relu") is False
    assert not calls(gm, Aten.linear.default)


def test_a_relu_after_a_linear_layer_is_its_own() -> None:
    _, gm = apply(use_linear, nn.Sequential(nn.Linear(32, 7), nn.ReLU()), x(5, 32))
    (layer,) = calls(gm, OURS.linear.default)
    assert argument(layer, "relu") is True
    assert not calls(gm, Aten.relu.default)


def test_a_relu_stays_where_others_read_the_layer() -> None:
    module = Function(lambda m, x: m.layer(x).relu() + m.layer(x), layer=nn.Linear(32, 7))
    shared = Function(lambda m, x: (lambda y: y.relu() + y)(m.layer(x)), layer=nn.Linear(32, 7))
    for each, wanted in ((module, [True, False]), (shared, [False])):
        _, gm = apply(use_linear, each, x(5, 32))
        assert [argument(layer, "relu") for layer in calls(gm, OURS.linear.default)] == wanted


@pytest.mark.parametrize("inputs", [(1, 32), (1, 1, 32), (5, 31)], ids=["one row", "one row of more axes", "width"])
def test_linear_layers_that_stay(inputs: tuple[int, ...]) -> None:
    assert apply(use_linear, nn.Linear(inputs[-1], 7), x(*inputs))[0] == 0


def test_a_computed_weight_stays() -> None:
    assert apply(use_linear, Function(lambda m, x, w: nn.functional.linear(x, w * 2)), x(5, 32), x(7, 32))[0] == 0


@pytest.mark.parametrize(("precision", "count"), [(Precision.FP32, 0), (Precision.TF32, 1)])
def test_weights_too_large_for_a_pair_of_fp16_stay_in_fp32(precision: Precision, count: int) -> None:
    layer, convolution = nn.Linear(32, 7), nn.Conv2d(32, 7, 3)
    for module, kernel_pass, given in ((layer, use_linear, x(5, 32)), (convolution, use_convolution, x(1, 32, 5, 5))):
        with torch.no_grad():
            module.weight.view(-1)[3] = 2000.0
        assert apply(kernel_pass, module, given, precision=precision)[0] == count


def test_programs_that_share_a_sum_have_counters() -> None:
    """Few rows of a long sum; a short one has none."""
    for inputs, counters in ((2048, 1), (32, 0)):
        _, gm = apply(use_linear, nn.Linear(inputs, 7), x(5, inputs))
        (layer,) = calls(gm, OURS.linear.default)
        assert argument(layer, "arrived").meta["val"].shape == (counters,)


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize(("rows", "bias"), [(2048, True), (2047, True), (2048, False)])
def test_a_large_linear_layer_is_the_librarys_in_fp16_and_bf16(rows: int, bias: bool, precision: Precision) -> None:
    """With its ReLU; without a bias it stays ours."""
    module = nn.Sequential(nn.Linear(256, 256, bias=bias), nn.ReLU())
    count, gm = apply(use_linear, module, x(rows, 256), precision=precision)
    by_library = calls(gm, OURS.product.default)
    assert (count, len(by_library)) == (1, rows * 256 * 256 >= LARGE and bias and precision in REDUCED)
    assert len(calls(gm, OURS.linear.default)) == 1 - len(by_library)
    for call in by_library:
        assert argument(call, "relu") is True
        assert {argument(call, name).meta["val"].dtype for name in ("x", "weight", "bias")} == {REDUCED[precision]}
