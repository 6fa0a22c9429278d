"""The operators as torch computes them on a CPU, the parts of weights, and the tiles that the kernels are given.

The kernels themselves are tested in tests/gpu/test_compiled_kernels.py.
"""

from __future__ import annotations

from math import ceil, log10

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from toolkit.engines.gpu.compiled.kernels.tiles import (
    MOST_SPLITS,
    MULTIPROCESSORS,
    SHORTEST_KEYS,
    SHORTEST_SHARE,
    SPLITS,
    Tile,
    attention_tile,
    product_tile,
    short_tile,
)
from toolkit.engines.gpu.compiled.operators import (
    LARGEST_WEIGHT,
    attention,
    conv2d,
    conv2d_relu,
    fits,
    joined,
    linear,
    weight_parts,
)
from toolkit.nn.attention import mask_logits
from toolkit.precision import Precision

pytestmark = pytest.mark.thorough

NONE_ARRIVED = torch.zeros(0, dtype=torch.int32)
each_precision = pytest.mark.parametrize("precision", Precision)


def x(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# Parts of weights


def test_a_pair_holds_22_bits_of_an_fp32_weight() -> None:
    """Of every magnitude up to the largest; of small ones to half of the smallest number of FP16, by both scales."""
    weight = x(50, 40).clamp(-1, 1) * torch.logspace(-12, log10(LARGEST_WEIGHT), 40)
    parts = weight_parts(weight, Precision.FP32)
    assert parts.isfinite().all()
    error = (joined(parts).double() - weight.double()).abs()
    assert (error <= weight.double().abs() * 2**-22 + 2**-42).all()


def test_weights_that_a_pair_cannot_hold() -> None:
    for largest, precision, fit in (
        (LARGEST_WEIGHT, Precision.FP32, True),
        (2 * LARGEST_WEIGHT, Precision.FP32, False),
        (float("nan"), Precision.FP32, False),
        (2 * LARGEST_WEIGHT, Precision.TF32, True),
    ):
        assert fits(torch.tensor([1.0, -largest]), precision) is fit


def test_tf32_rounds_to_the_nearest_of_10_bits() -> None:
    """Half of a unit goes away from zero."""
    unit = 2.0**-10
    weight = torch.tensor([1.0, 1 + 0.49 * unit, 1 + 0.5 * unit, 1 + 1.51 * unit, -1 - 0.5 * unit, 2 - 0.4 * unit, 0.0])
    expected = torch.tensor([[1.0, 1, 1 + unit, 1 + 2 * unit, -1 - unit, 2, 0]])
    assert torch.equal(weight_parts(weight, Precision.TF32), expected)
    rounded = weight_parts(x(1000), Precision.TF32)[0]
    assert not (rounded.view(torch.int32) & 0x1FFF).any()
    assert ((rounded - x(1000)).abs() <= x(1000).abs() * unit / 2).all()


@pytest.mark.parametrize(
    ("precision", "parts", "dtype"),
    [
        (Precision.FP32, 2, torch.float16),
        (Precision.TF32, 1, torch.float32),
        (Precision.FP16, 1, torch.float16),
        (Precision.BF16, 1, torch.bfloat16),
    ],
)
def test_parts_of_a_weight(precision: Precision, parts: int, dtype: torch.dtype) -> None:
    weight = weight_parts(x(3, 4), precision)
    assert (weight.shape, weight.dtype) == ((parts, 3, 4), dtype)
    assert torch.equal(joined(weight), x(3, 4).to(dtype).float()) or precision in (Precision.FP32, Precision.TF32)


# Operators


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("bias", [None, x(7)])
def test_linear_is_torchs(bias: Tensor | None, relu: bool) -> None:
    """Of the weight that its parts hold: the same calls in the same order, hence the same bits."""
    weight = weight_parts(x(7, 32), Precision.FP32)
    expected = functional.linear(x(2, 5, 32), joined(weight), bias)
    actual = linear(x(2, 5, 32), weight, bias, NONE_ARRIVED, relu)
    assert torch.equal(actual, expected.relu() if relu else expected)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (2, 0)])
def test_conv2d_is_torchs(stride: int, padding: int, residual: bool) -> None:
    """To rounding: torch sums in another order where memory lies otherwise."""
    weight, bias = x(6, 32, 3, 3), x(6)
    expected = functional.conv2d(x(2, 32, 7, 8), weight, bias, stride, padding)
    added = x(*expected.shape) if residual else None
    expected = expected if added is None else expected + added
    taps = weight_parts(weight.permute(0, 2, 3, 1), Precision.FP32)
    actual = conv2d(x(2, 32, 7, 8), taps, bias, added, NONE_ARRIVED, stride, padding, True, False)
    torch.testing.assert_close(actual, expected.relu(), rtol=0, atol=1e-6 * expected.abs().max().item())
    assert actual.is_contiguous(memory_format=torch.channels_last)


def test_conv2d_stores_what_it_is_told() -> None:
    taps = weight_parts(x(6, 3, 3, 32), Precision.FP16)
    wide, reduced = (
        conv2d(x(1, 32, 5, 5).half(), taps, None, None, NONE_ARRIVED, 1, 1, False, reduced) for reduced in (False, True)
    )
    assert (wide.dtype, reduced.dtype) == (torch.float32, torch.float16)
    assert torch.equal(wide.half(), reduced)


@pytest.mark.parametrize("valid", [None, x(2, 1, 1, 5) > 0, x(1, 1, 3, 5) > 0, torch.zeros(1, 1, 1, 5).bool()])
def test_attention_is_torchs(valid: Tensor | None) -> None:
    """To two units in the last place of values below 4: the sum of weights divides after the product, not before."""
    q, k, v = x(2, 4, 3, 16), x(2, 4, 5, 16) + 1, x(2, 4, 5, 16)
    expected = mask_logits(0.5 * q @ k.transpose(-1, -2), valid).softmax(-1) @ v
    actual = attention(q, k, v, valid, NONE_ARRIVED, 0.5, "fp32")
    torch.testing.assert_close(actual.transpose(1, 2), expected, rtol=0, atol=1e-6)
    assert actual.shape == (2, 3, 4, 16)


# Precisions


def taken(factor: Tensor, precision: Precision) -> Tensor:
    """What is left of a factor, in FP32: all of it in FP32."""
    return factor if precision is Precision.FP32 else joined(weight_parts(factor, precision))


@each_precision
def test_linear_rounds_both_factors_and_sums_in_fp32(precision: Precision) -> None:
    """To the last bit what FP32 gives for factors that are rounded already."""
    rows, weight = 1 + x(5, 32) / 3, x(7, 32)
    actual = linear(rows, weight_parts(weight, precision), None, NONE_ARRIVED, False)
    assert torch.equal(actual, functional.linear(taken(rows, precision), joined(weight_parts(weight, precision))))
    assert ((actual - functional.linear(rows, weight)).abs().max() < 1e-4) == (precision is Precision.FP32)


@each_precision
def test_conv2d_rounds_both_factors_and_sums_in_fp32(precision: Precision) -> None:
    """Bias and residual are added in FP32."""
    image, weight, bias, added = 1 + x(2, 32, 5, 6) / 3, x(7, 32, 3, 3), x(7), x(2, 7, 5, 6)
    taps = weight_parts(weight.permute(0, 2, 3, 1), precision)
    actual = conv2d(image, taps, bias, added, NONE_ARRIVED, 1, 1, False, False)
    expected, whole = (
        functional.conv2d(a, b, bias, padding=1) + added
        for a, b in ((taken(image, precision), taken(weight, precision)), (image, weight))
    )
    assert (actual - expected).abs().max() < 1e-4
    assert ((actual - whole).abs().max() < 1e-4) == (precision is Precision.FP32)


@each_precision
def test_attention_rounds_the_factors_of_both_products(precision: Precision) -> None:
    """One key gives its rounded value. Two equal keys have weights of 1; a third one's weight is rounded too."""
    key, value = x(1, 1, 1, 16), x(1, 1, 1, 16)
    one = attention(x(1, 1, 2, 16), key, value, None, NONE_ARRIVED, 0.5, precision)
    assert torch.equal(one, taken(value, precision).expand(1, 2, 1, 16))
    keys, values = torch.cat((key, key, -key), 2), torch.cat((value, value, -value), 2)
    actual = attention(key, keys, values, None, NONE_ARRIVED, 0.05, precision)
    logit = (taken(key * 0.05, precision) * taken(key, precision)).sum()
    weight = (-2 * logit).exp()
    expected = taken(value, precision) * (2 - taken(weight, precision)) / (2 + weight)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=0)


@each_precision
def test_what_fits_a_precision_is_exact_in_it(precision: Precision) -> None:
    """Small whole numbers, of which products and sums have no rounding either."""
    rows, weight = (x(5, 32) * 4).round(), (x(7, 32) * 4).round()
    actual = linear(rows, weight_parts(weight, precision), None, NONE_ARRIVED, False)
    assert torch.equal(actual, rows @ weight.t())


@each_precision
def test_linear_is_an_operator_that_torch_can_compile(precision: Precision) -> None:
    """torch compares types, shapes, strides and aliases with what each operator declares."""
    weight = weight_parts(x(7, 32), precision)
    for rows in (x(5, 32), x(3, 2, 32).transpose(0, 1), x(5, 64)[:, :32]):
        torch.library.opcheck(linear, (rows, weight, x(7), NONE_ARRIVED, True))
    torch.library.opcheck(linear, (x(5, 32), weight, None, NONE_ARRIVED, False))


@each_precision
def test_conv2d_is_an_operator_that_torch_can_compile(precision: Precision) -> None:
    weight, image = (
        weight_parts(x(6, 3, 3, 32), precision),
        x(2, 32, 7, 8).contiguous(memory_format=torch.channels_last),
    )
    for stride, reduced in ((1, False), (2, True)):
        added = torch.zeros(2, 6, -(-7 // stride), 8 // stride) if stride == 2 else None
        torch.library.opcheck(conv2d, (image, weight, x(6), added, NONE_ARRIVED, stride, 1, True, reduced))
    pixel_groups = weight_parts(x(6, 7, 1, 32), precision)
    torch.library.opcheck(conv2d, (x(1, 4, 20, 21), pixel_groups, None, None, NONE_ARRIVED, 2, 0, False, False))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_conv2d_relu_rounds_its_result_alone(dtype: torch.dtype) -> None:
    image, added = (x(2, channels, 5, 6).to(dtype) for channels in (32, 7))
    weight, bias = x(7, 32, 3, 3).to(dtype), x(7).to(dtype)
    for residual in (None, added):
        actual = conv2d_relu(image, weight, bias, residual, 1, 1)
        expected = functional.conv2d(image.double(), weight.double(), bias.double(), padding=1)
        expected += 0 if residual is None else residual.double()
        torch.testing.assert_close(actual, expected.relu().to(dtype), rtol=0.0, atol=torch.finfo(dtype).eps * 64)
        assert actual.min() == 0


def test_conv2d_relu_is_an_operator_that_torch_can_compile() -> None:
    image, weight = (
        x(*shape).half().contiguous(memory_format=torch.channels_last) for shape in ((2, 32, 7, 8), (6, 32, 3, 3))
    )
    for stride, residual in ((1, torch.zeros(2, 6, 7, 8).half()), (2, None)):
        torch.library.opcheck(conv2d_relu, (image, weight, x(6).half(), residual, stride, 1))


def test_attention_is_an_operator_that_torch_can_compile() -> None:
    heads_last = [x(2, rows, 4, 16).transpose(1, 2) for rows in (3, 5, 5)]
    for valid in (None, x(2, 1, 1, 5) > 0):
        torch.library.opcheck(attention, (*heads_last, valid, NONE_ARRIVED, 0.25, "fp32"))


# Tiles

sizes = st.integers(1, 4000)


def assert_splits_share(tile: Tile, length: int, shortest: int, most: int) -> None:
    """Each program that shares a sum of `length` has a worthwhile share on average."""
    assert 1 <= tile.splits <= most
    assert tile.splits == 1 or length >= tile.splits * shortest


def shares(tile: Tile, length: int) -> list[range]:
    """The steps of each program along the sum, as the kernels divide them."""
    steps = ceil(length / tile.summed)
    share = ceil(steps / tile.splits)
    return [range(split * share, min(steps, (split + 1) * share)) for split in range(tile.splits)]


kinds = st.sampled_from([(2, torch.float16), (1, torch.float32), (1, torch.float16), (1, torch.bfloat16)])
"""Of weights: parts, and their type."""


def parts_of(kind: tuple[int, torch.dtype], *shape: int) -> Tensor:
    """A weight, of which only what it is like matters."""
    return torch.empty(kind[0], *shape, dtype=kind[1], device="meta")


@given(sizes, sizes, st.integers(1, 128), st.sampled_from([1, 9, 49]), kinds)
def test_tiles_of_products(rows: int, columns: int, groups: int, taps: int, kind: tuple[int, torch.dtype]) -> None:
    """A step stays within the channels of one tap; all steps are done once; the first program always has some."""
    channels = 32 * groups
    tile = product_tile(rows, parts_of(kind, columns, taps, 1, channels))
    assert channels % tile.summed == 0
    assert tile.programs(rows, columns) * tile.rows * tile.columns >= rows * columns
    assert_splits_share(tile, taps * channels, SHORTEST_SHARE, max(SPLITS))
    done = shares(tile, taps * channels)
    assert [step for share in done for step in share] == list(range(taps * channels // tile.summed))
    assert done[0]


@pytest.mark.parametrize(
    ("rows", "columns", "length", "rows_of_a_tile", "splits"),
    [
        (49, 256, 256, 16, 1),
        (2500, 256, 256, 64, 1),
        (6, 256, 768, 16, 4),
        (2496, 256, 2304, 64, 2),
        (39936, 64, 576, 64, 1),
    ],
    ids=["few blocks", "a block for each multiprocessor", "few blocks of long sums", "uneven turns", "many turns"],
)
def test_a_tile_keeps_the_multiprocessors_busy(
    rows: int, columns: int, length: int, rows_of_a_tile: int, splits: int
) -> None:
    """Large blocks, if there are enough of them; programs share sums where that evens out how many turns they take."""
    tile = product_tile(rows, parts_of((2, torch.float16), columns, length // 64, 1, 64))
    assert (tile.rows, tile.splits) == (rows_of_a_tile, splits)


@given(sizes, sizes, st.integers(1, 16), kinds)
def test_tiles_of_short_products(rows: int, columns: int, groups: int, kind: tuple[int, torch.dtype]) -> None:
    """All of a sum at once, in blocks that a multiprocessor has room for, two of them at most for each."""
    inputs = 32 * groups
    tile = short_tile(rows, parts_of(kind, columns, inputs))
    if tile is not None:
        assert inputs % tile.summed == 0
        assert (tile.splits, tile.stages) == (1, 1)
        assert tile.programs(rows, columns) <= 2 * MULTIPROCESSORS
    elif rows <= 256 and columns <= 256:
        assert inputs not in ((256, 512) if kind in ((1, torch.float16), (1, torch.bfloat16)) else (256,))


@given(sizes, sizes, sizes, st.sampled_from(Precision))
def test_tiles_of_attention(batch_heads: int, queries: int, keys: int, precision: Precision) -> None:
    tile = attention_tile(batch_heads, queries, keys, precision)
    assert tile.programs(queries, 1) * tile.rows >= queries
    assert_splits_share(tile, keys, SHORTEST_KEYS, MOST_SPLITS)
    done = shares(tile, keys)
    assert [step for share in done for step in share] == list(range(ceil(keys / tile.summed)))
    assert done[0]


def test_tracks_attend_to_each_other_at_once() -> None:
    """8 heads of 1150 queries: 72 blocks, of which 3 programs share one, that run on 132 multiprocessors by twos."""
    tile = attention_tile(8, 1150, 1150, Precision.FP32)
    assert (tile.rows, tile.splits) == (128, 3)


@pytest.mark.parametrize(("cells", "splits"), [(2_500, 8), (40_000, 16)])
def test_few_queries_of_a_map_keep_a_gpu_busy(cells: int, splits: int) -> None:
    """100 queries are 32 blocks in 8 heads."""
    for precision in Precision:
        assert attention_tile(8, 100, cells, precision).splits == splits


def test_a_late_program_may_find_nothing_left_of_a_sum() -> None:
    """33 steps among 8 programs: 5 each for six of them, then 3. The last adds zeros."""
    tile = product_tile(16, parts_of((1, torch.float32), 32, 33 * 64))
    assert (tile.splits, tile.summed) == (8, 64)
    assert [len(share) for share in shares(tile, 33 * 64)] == [5] * 6 + [3, 0]
