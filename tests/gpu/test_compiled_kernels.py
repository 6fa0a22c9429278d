"""The compiled network's kernels against float64 on fresh random inputs, in every precision."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from tests.gpu.parity import padded, relative_error, shifted
from tests.toolkit.small_network import assert_same_results, drive, small_network
from toolkit.engines.gpu.compiled.network import compile_network
from toolkit.engines.gpu.compiled.operators import REDUCED, attention, joined, linear, product, weight_parts
from toolkit.engines.gpu.compiled.passes.use_convolution import use_convolution
from toolkit.engines.gpu.compiled.tf32 import tf32
from toolkit.engines.gpu.frame_graph import FrameGraph
from toolkit.nn.attention import mask_logits
from toolkit.precision import Precision

poisoned = pytest.mark.usefixtures("poisoned_memory")
each_precision = pytest.mark.parametrize("precision", Precision)

TOLERANCE = {Precision.FP32: 2e-6, Precision.TF32: 1e-3, Precision.FP16: 1e-3, Precision.BF16: 8e-3}
"""Relative L2 error. A factor's rounding is off by 2e-4 in TF32 and FP16 (11 bits) and 1.6e-3 in BF16 (8 bits), root
mean square; a product has two, and a stored result a third. FP32 drops what is below 2^-21 of a product."""


def x(*shape: int) -> Tensor:
    return torch.randn(shape, device="cuda")


def counters() -> Tensor:
    """More than there are blocks."""
    return torch.zeros(2**16, dtype=torch.int32, device="cuda")


# Products

PRODUCTS = {
    "one row": (1, 256, 256),
    "few rows": (7, 256, 10),
    "agents": (129, 256, 60),
    "a decoder's queries": (901, 256, 256),
    "classes of a decoder's queries": (1150, 256, 10),
    "camera features": (624, 256, 96),
    "BEV": (2500, 256, 256),
    "BEV, wide": (2500, 256, 512),
    "BEV, long": (2500, 512, 256),
    "agents and modes": (774, 256, 512),
    "agents and modes, wide": (774, 256, 768),
    "agents and modes, long": (774, 512, 256),
    "lanes, long": (300, 512, 70),
    "channels that 64 does not divide": (300, 96, 70),
    "a shared sum": (13, 2048, 40),
    "a shared sum of which the last program finds nothing left": (16, 2112, 32),
}
"""Rows, summed elements and columns."""


@poisoned
@each_precision
@pytest.mark.parametrize("case", PRODUCTS.values(), ids=PRODUCTS.keys())
def test_products(case: tuple[int, int, int], precision: Precision) -> None:
    rows, inputs, outputs = case
    check_linear(x(rows, inputs), outputs, precision)


@poisoned
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize("pitch", [259, 260, 262, 768])
@pytest.mark.parametrize("start", [0, 3])
def test_rows_at_any_distance_and_from_any_address(pitch: int, start: int, precision: Precision) -> None:
    """As slices of a wider layer's result."""
    check_linear(x(901, pitch)[:, start : start + 256], 96, precision)


@poisoned
def test_rows_that_are_not_dense() -> None:
    for rows in (x(6, 50, 64).transpose(0, 1), x(64, 300).t(), shifted(x(300, 64)), padded(x(300, 64))):
        check_linear(rows, 48, Precision.FP32)


@poisoned
def test_empty_parts_of_the_epilogue() -> None:
    """No bias, no ReLU."""
    rows, weight = x(300, 64), x(40, 64)
    actual = linear(rows, weight_parts(weight, Precision.FP32), None, counters(), False)
    assert relative_error(actual, rows.double() @ weight.double().t()) < TOLERANCE[Precision.FP32]


@poisoned
@pytest.mark.parametrize("columns", [96, 10])
@pytest.mark.parametrize("magnitude", [1e-6, 1e-3, 1e3, 1e6, 1e30])
def test_rows_of_any_magnitude_in_fp32(magnitude: float, columns: int) -> None:
    """Beyond what FP16 holds as well, all of them or one; what is not finite stays so, in its row alone."""
    weight = weight_parts(x(columns, 256) / 16, Precision.FP32)
    rows = magnitude * x(901, 256)
    rows[7, 3] = 1e5 * magnitude
    rows[40, 5], rows[41, 6] = float("inf"), float("nan")
    actual = linear(rows, weight, None, counters(), False)
    expected = rows.double() @ joined(weight).double().t()
    finite = torch.ones(901, dtype=torch.bool, device="cuda")
    finite[40:42] = False
    assert torch.equal(actual.isfinite().all(1), finite)
    assert relative_error(actual[finite], expected[finite]) < TOLERANCE[Precision.FP32]
    finite[7] = False  # beside which errors of all others would be small
    assert relative_error(actual[finite], expected[finite]) < TOLERANCE[Precision.FP32]


def check_linear(rows: Tensor, outputs: int, precision: Precision) -> None:
    """With bias and ReLU; calls repeat to the last bit, and leave zeros in the counters."""
    weight, bias, arrived = x(outputs, rows.shape[-1]), x(outputs), counters()
    arguments = (rows, weight_parts(weight, precision), bias, arrived, True)
    actual = linear(*arguments)
    expected = nn.functional.linear(rows.double(), weight.double(), bias.double()).relu()
    assert (actual.dtype, actual.shape) == (torch.float32, expected.shape)
    assert relative_error(actual, expected) < TOLERANCE[precision]
    assert torch.equal(linear(*arguments), actual)
    assert not arrived.any()


# Convolutions

CONVOLUTIONS = {
    "pointwise": (nn.Conv2d(64, 256, 1), (6, 64, 32, 52)),
    "pointwise, every other pixel": (nn.Conv2d(256, 512, 1, stride=2, bias=False), (6, 256, 32, 52)),
    "3x3": (nn.Conv2d(64, 64, 3, padding=1), (6, 64, 64, 104)),
    "3x3, every other pixel": (nn.Conv2d(128, 128, 3, stride=2, padding=1), (6, 128, 32, 52)),
    "3x3, a long sum": (nn.Conv2d(512, 512, 3, padding=1), (6, 512, 8, 13)),
    "few columns, odd sizes": (nn.Conv2d(32, 10, 3, padding=2), (2, 32, 7, 9)),
    "pictures": (nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), (6, 3, 64, 104)),
    "pictures, 3x3, odd sizes": (nn.Conv2d(3, 20, 3, padding=1), (2, 3, 17, 19)),
    "pictures, pixel by pixel": (nn.Conv2d(3, 20, 1), (2, 3, 17, 19)),
}
"""Layers, and shapes of images: those of UniAD-tiny's backbone, some smaller, and odd ones."""


@poisoned
@each_precision
@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_convolutions(case: tuple[nn.Conv2d, tuple[int, ...]], precision: Precision) -> None:
    layer, shape = case
    check_convolutions(layer, x(*shape), precision)


@poisoned
@pytest.mark.parametrize("precision", REDUCED)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", [(1150, 256), (3, 7, 96)])
def test_products_of_the_library(shape: tuple[int, ...], relu: bool, precision: Precision) -> None:
    """Of rows in FP16 or BF16, and so is the result."""
    dtype = REDUCED[precision]
    rows, weight, bias = x(*shape).to(dtype), (x(40, shape[-1]) / 8).to(dtype), x(40).to(dtype)
    actual = product(rows, weight, bias, relu)
    expected = nn.functional.linear(rows.double(), weight.double(), bias.double())
    assert (actual.dtype, actual.shape) == (dtype, expected.shape)
    assert relative_error(actual, expected.relu() if relu else expected) < TOLERANCE[precision]


class Bottleneck(nn.Module):
    """A residual block, whose images in between are stored in FP16 or BF16 in these precisions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (
            nn.Conv2d(64, 32, 1),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.Conv2d(32, 64, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.third(self.second(self.first(image).relu()).relu())
        return (image + out).relu()


@poisoned
@each_precision
def test_a_residual_block(precision: Precision) -> None:
    """Three products in a row; the residual makes the error a smaller part of the result."""
    check_convolutions(Bottleneck(), x(2, 64, 15, 26), precision)


@poisoned
@each_precision
def test_images_of_any_layout_and_blocks_in_a_row(precision: Precision) -> None:
    """The first block's result, stored in the type of the weights, is the second's residual."""
    images = x(2, 64, 15, 26)
    for image in (images, images.contiguous(memory_format=torch.channels_last), images.transpose(2, 3)):
        check_convolutions(nn.Sequential(Bottleneck(), Bottleneck()), image, precision)


@poisoned
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
@pytest.mark.parametrize(
    ("channels", "outputs", "stride", "shape"),
    [(64, 64, 1, (6, 64, 104)), (128, 128, 2, (6, 64, 104)), (512, 512, 1, (6, 8, 13)), (256, 128, 1, (5, 26, 26))],
    ids=str,
)
def test_cudnns_convolutions(
    channels: int, outputs: int, stride: int, shape: tuple[int, int, int], precision: Precision
) -> None:
    """Between others, as in the backbone and in occupancy's decoder."""
    layer = nn.Conv2d(channels, outputs, 3, stride, padding=1)
    module = nn.Sequential(nn.Conv2d(32, channels, 1), layer, nn.ReLU(), nn.Conv2d(outputs, 32, 1))
    check_convolutions(module, x(shape[0], 32, *shape[1:]), precision)


def check_convolutions(module: nn.Module, image: Tensor, precision: Precision) -> None:
    """As the pass writes them; calls repeat to the last bit, and leave zeros in the counters."""
    module = module.to("cuda", torch.float32).requires_grad_(False)
    gm = torch.export.export(module, (image,), strict=False).module()
    assert isinstance(gm, GraphModule)
    assert use_convolution(gm, precision)
    gm.recompile()
    actual, again = gm(image), gm(image)
    expected = module.double()(image.double())
    assert (actual.dtype, actual.shape) == (torch.float32, expected.shape)
    assert relative_error(actual, expected) < TOLERANCE[precision]
    assert torch.equal(again, actual)
    assert not any(buffer.any() for buffer in gm.buffers() if buffer.dtype == torch.int32)


# Attention


@dataclass(frozen=True)
class Case:
    """Sizes of one call."""

    batch: int
    queries: int
    keys: int
    heads: int = 8
    width: int = 32

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, heads side by side in memory, keys and values those of a wider layer."""
        features = self.heads * self.width
        merged = x(self.batch, self.keys, 3 * features)
        query, key, value = x(self.batch, self.queries, features), merged[..., :features], merged[..., -features:]
        heads = [t.unflatten(-1, (self.heads, self.width)).transpose(1, 2) for t in (query, key, value)]
        return heads[0], heads[1], heads[2]


ATTENTIONS = {
    "track queries": Case(1, 1150, 1150),
    "agents": Case(1, 129, 129),
    "few queries and keys, many batches": Case(129, 6, 6),
    "agents and lanes": Case(6, 129, 300),
    "agents and BEV": Case(1, 129, 2500),
    "few queries, of which the last program finds no key left": Case(1, 17, 2100),
    "one key": Case(3, 5, 1),
    "narrow": Case(2, 50, 70, heads=2, width=16),
    "wide": Case(2, 50, 70, heads=2, width=64),
}


@poisoned
@each_precision
@pytest.mark.parametrize("case", ATTENTIONS.values(), ids=ATTENTIONS.keys())
def test_attention(case: Case, precision: Precision) -> None:
    check_attention(case, None, precision)


@poisoned
@each_precision
@pytest.mark.parametrize("case", [Case(2, 129, 300), Case(1, 17, 2100)], ids=["short", "shared"])
@pytest.mark.parametrize("mask", ["by key", "by key and batch", "by head", "by query", "by both", "none valid"])
def test_masked_attention(mask: str, case: Case, precision: Precision) -> None:
    """Rows without a valid key, and long stretches of keys that are not valid, are among them."""
    shape = {
        "by key": (1, 1, 1, case.keys),
        "by key and batch": (case.batch, 1, 1, case.keys),
        "by head": (1, case.heads, 1, case.keys),
        "by query": (1, 1, case.queries, 1),
        "by both": (1, 1, case.queries, case.keys),
        "none valid": (1, 1, 1, case.keys),
    }[mask]
    valid = torch.rand(shape, device="cuda") < 0.5
    valid[..., : case.keys // 2] &= mask == "by query"
    valid[..., :3, :] &= mask != "by both"
    valid &= mask != "none valid"
    check_attention(case, valid, precision)


@poisoned
@pytest.mark.parametrize("magnitude", [1e-4, 1e3, 1e30])
def test_attention_to_values_of_any_magnitude(magnitude: float) -> None:
    """FP16, of which FP32 is made, holds some of them only."""
    check_attention(Case(1, 1150, 1150), None, Precision.FP32, magnitude)


@poisoned
@pytest.mark.parametrize("last", [0, 1, 900, 1149])
def test_attention_to_the_first_keys_alone(last: int) -> None:
    valid = torch.arange(1150, device="cuda").view(1, 1, 1, -1) <= last
    check_attention(Case(1, 1150, 1150), valid, Precision.FP32)


def check_attention(case: Case, valid: Tensor | None, precision: Precision, magnitude: float = 1.0) -> None:
    """Logits of about 1; calls repeat to the last bit, and leave zeros in the counters."""
    query, key, value = case.inputs()
    value = value * magnitude
    scale, arrived = case.width**-0.5, counters()
    arguments = (query, key, value, valid, arrived, scale, str(precision))
    actual = attention(*arguments)
    logits = mask_logits(scale * query.double() @ key.double().transpose(-1, -2), valid)
    expected = (logits.softmax(-1) @ value.double()).transpose(1, 2)
    assert (actual.dtype, actual.shape) == (torch.float32, expected.shape)
    assert actual.is_contiguous()
    assert relative_error(actual, expected) < TOLERANCE[precision]
    assert torch.equal(attention(*arguments), actual)
    assert not arrived.any()


# Together


@poisoned
@each_precision
def test_a_cuda_graph_of_all_kernels(precision: Precision) -> None:
    """Replays equal calls outside of the graph to the last bit, sums that programs share among them."""
    layer = nn.Conv2d(64, 64, 3, padding=1).to("cuda").requires_grad_(False)
    gm = torch.export.export(layer, (x(1, 64, 32, 32),), strict=False).module()
    assert isinstance(gm, GraphModule)
    use_convolution(gm, precision)
    gm.recompile()
    weight, arrived, others = weight_parts(x(256, 2048), precision), counters(), counters()

    def function(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        rows = linear(inputs["rows"], weight, None, arrived, False)
        heads = rows.unflatten(-1, (8, 32)).transpose(0, 1)[None]
        keys = gm(inputs["image"]).flatten(2).unflatten(1, (2, 32)).repeat(1, 4, 1, 1).transpose(2, 3)
        return {"out": attention(heads, keys, keys, None, others, 0.1, str(precision))}

    drawn = [{"rows": x(17, 2048), "image": x(1, 64, 32, 32)} for _ in range(3)]
    graph = FrameGraph(function, drawn[0])  # type: ignore[arg-type]
    for inputs in drawn:
        assert torch.equal(graph(inputs)["out"], function(inputs)["out"])
    assert not arrived.any()
    assert not others.any()


def test_the_compiled_network_is_the_eager_network() -> None:
    """Kernels, torch.compile, streams and state together, on a small network: decisions are the same."""
    network = small_network().to("cuda")
    with tf32(False):
        expected = drive(network, network.graph, 3, "cuda")
    compiled = compile_network(network, Precision.FP32)
    assert_same_results(drive(compiled, network.graph, 3, "cuda"), expected, 5e-5)
