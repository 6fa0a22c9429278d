"""CUDA kernels against the eager ops in float64, on fresh random inputs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from custom_ops.inverse.op import inverse
from custom_ops.modulated_deformable_convolution.op import modulated_deformable_convolution
from custom_ops.multi_scale_deformable_attention.op import multi_scale_deformable_attention
from custom_ops.rotate.op import rotate

TOLERANCE = {torch.float32: 2e-5, torch.float16: 1e-3}
"""Relative L2 error. FP32 locations on a map of 200 cells are exact to 1e-5 of a cell."""

SHAPES: dict[str, tuple[int, Sequence[int], int, int, int, int, int]] = {
    "spatial": (6, (8, 13), 2500, 8, 32, 8, 4),
    "temporal": (2, (50, 50), 2500, 8, 32, 4, 1),
    "decoder": (1, (50, 50), 901, 8, 32, 4, 1),
    "four levels": (2, (29, 50, 15, 25, 8, 13, 4, 7), 1000, 8, 32, 8, 4),
    "five levels": (1, (20, 20, 10, 10, 5, 5, 3, 3, 2, 2), 77, 4, 16, 4, 1),
    "odd channels": (2, (7, 9), 33, 3, 5, 3, 1),
    "many channels": (1, (7, 9), 33, 2, 160, 4, 2),
    "one query": (1, (3, 3), 1, 1, 8, 1, 1),
    "no queries": (2, (5, 5), 0, 8, 32, 4, 1),
}
"""Batch, spatial shapes, queries, heads, channels, points a level, reference points."""


def attention_inputs(name: str, dtype: torch.dtype) -> tuple[tuple[Tensor, ...], list[int]]:
    batch, shapes, queries, heads, channels, points, references = SHAPES[name]
    levels = len(shapes) // 2
    keys = sum(shapes[2 * i] * shapes[2 * i + 1] for i in range(levels))
    value = torch.randn(batch, keys, heads, channels, device="cuda")
    reference = torch.rand(batch, queries, 1, 2 * references, device="cuda") * 1.4 - 0.2
    offsets = 4 * torch.randn(batch, queries, heads, levels * points * 2, device="cuda")
    logits = torch.randn(batch, queries, heads, levels * points, device="cuda")
    return tuple(x.to(dtype) for x in (value, reference, offsets, logits)), list(shapes)


def in_double(inputs: tuple[Tensor, ...], shapes: list[int]) -> Tensor:
    """The op's eager implementation in float64."""
    expected: Tensor = multi_scale_deformable_attention._init_fn(*(x.double() for x in inputs), shapes)
    return expected


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """L2 norms; an output that is zero throughout must be so exactly."""
    error = (actual.double() - expected).norm()
    return float(error / expected.norm()) if expected.any() else float(error)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", SHAPES)
def test_attention_equals_float64(name: str, dtype: torch.dtype) -> None:
    inputs, shapes = attention_inputs(name, dtype)
    actual = multi_scale_deformable_attention(*inputs, shapes)
    assert actual.dtype == dtype
    assert relative_error(actual, in_double(inputs, shapes)) <= TOLERANCE[dtype]


def test_attention_reads_expanded_batches_in_place() -> None:
    (value, reference, offsets, logits), shapes = attention_inputs("spatial", torch.float32)
    shared = (offsets[:1].expand_as(offsets), logits[:1].expand_as(logits))
    actual = multi_scale_deformable_attention(value, reference, *shared, shapes)
    assert relative_error(actual, in_double((value, reference, *shared), shapes)) <= TOLERANCE[torch.float32]


def test_attention_far_outside_the_map_is_zero() -> None:
    (value, reference, offsets, logits), shapes = attention_inputs("decoder", torch.float32)
    for far in (1e3, 1e30, float("inf")):
        assert not multi_scale_deformable_attention(value, reference + far, offsets, logits, shapes).any()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_rotate_equals_eager(interpolation: str, dtype: torch.dtype) -> None:
    """Bilinear everywhere; nearest save for pixels whose source lies within rounding of a pixel border."""
    image = torch.randn(19, 50, 47, device="cuda").to(dtype)
    angle, center = torch.tensor([10.5], device="cuda"), torch.tensor([100.0, 80.0], device="cuda")
    actual = rotate(image, angle.to(dtype), center.to(dtype), interpolation)
    expected = rotate._init_fn(image.double(), angle.to(dtype).double(), center.to(dtype).double(), interpolation)
    differs = (actual.double() - expected).abs() > 4e-3 * expected.abs() + 4e-3
    assert differs.float().mean() <= (1e-3 if interpolation == "nearest" else 0)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_inverse_equals_float64(dtype: torch.dtype) -> None:
    matrix = (torch.randn(50, 3, 3, device="cuda") + 4 * torch.eye(3, device="cuda")).to(dtype)
    assert relative_error(inverse(matrix), torch.linalg.inv(matrix.double())) <= TOLERANCE[dtype]


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], int, dict[str, int]]] = {
    "stage three of UniAD-base": ((6, 256, 58, 100), (256, 256, 3, 3), 1, {"stride": 1, "padding": 1, "dilation": 1}),
    "stage four of UniAD-base": ((6, 512, 29, 50), (512, 512, 3, 3), 1, {"stride": 1, "padding": 1, "dilation": 1}),
    "into stage four": ((6, 512, 58, 100), (512, 512, 3, 3), 1, {"stride": 2, "padding": 1, "dilation": 1}),
    "groups": ((2, 24, 17, 19), (10, 12, 3, 3), 4, {"stride": 1, "padding": 2, "dilation": 2}),
    "not square": ((1, 5, 9, 8), (7, 5, 1, 3), 1, {"stride": 2, "padding": 0, "dilation": 1}),
    "1x1": ((1, 3, 4, 5), (70, 3, 1, 1), 3, {"stride": 1, "padding": 0, "dilation": 1}),
    "no images": ((0, 3, 4, 5), (2, 3, 1, 1), 1, {"stride": 1, "padding": 0, "dilation": 1}),
}
"""Shapes of image and weight, sets of offsets, attributes."""


def convolution_inputs(name: str, dtype: torch.dtype) -> tuple[tuple[Tensor, ...], dict[str, int]]:
    image, weight, offset_groups, attributes = CONVOLUTIONS[name]
    span = [attributes["dilation"] * (kernel - 1) + 1 - 2 * attributes["padding"] for kernel in weight[2:]]
    out_size = [(image[2 + i] - span[i]) // attributes["stride"] + 1 for i in range(2)]
    taps = offset_groups * weight[2] * weight[3]
    inputs = (
        torch.randn(image, device="cuda"),
        2 * torch.randn(image[0], 2 * taps, *out_size, device="cuda"),
        torch.rand(image[0], taps, *out_size, device="cuda"),
        torch.randn(weight, device="cuda"),
    )
    return tuple(x.to(dtype) for x in inputs), attributes


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_equals_float64(name: str, dtype: torch.dtype) -> None:
    inputs, attributes = convolution_inputs(name, dtype)
    actual = modulated_deformable_convolution(*inputs, **attributes)
    expected = modulated_deformable_convolution._init_fn(*(x.double() for x in inputs), **attributes)
    assert actual.dtype == dtype
    assert relative_error(actual, expected) <= TOLERANCE[dtype]


def test_convolution_far_outside_the_image_is_zero() -> None:
    (image, offset, mask, weight), attributes = convolution_inputs("groups", torch.float32)
    for far in (1e3, 1e30, float("inf"), float("nan")):
        assert not modulated_deformable_convolution(image, offset + far, mask, weight, **attributes).any()


def test_convolution_reads_strided_inputs() -> None:
    inputs, attributes = convolution_inputs("groups", torch.float32)
    strided = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in inputs]
    expected = modulated_deformable_convolution(*inputs, **attributes)
    assert torch.equal(modulated_deformable_convolution(*strided, **attributes), expected)
