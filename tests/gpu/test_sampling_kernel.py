"""The kernel that samples an image for deformable convolution, and the convolution as a product, against float64."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from custom_ops.modulated_deformable_convolution.op import modulated_deformable_convolution
from tests.gpu.parity import padded, relative_error, turned
from toolkit.engines.gpu.compiled.operators import conv2d, conv2d_relu, sample_taps, weight_parts
from toolkit.nn.tap_samples import tap_samples
from toolkit.precision import Precision

pytestmark = pytest.mark.usefixtures("poisoned_memory")

TOLERANCE = {torch.float32: 2e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""Relative L2 error: FP32 locations are exact to 1e-5 of a cell; image and samples are rounded to 11 bits, or 8."""


@dataclass(frozen=True)
class Case:
    """The image's shape, and the geometry of the taps."""

    image: tuple[int, int, int, int]
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: int = 1
    dilation: int = 1

    @property
    def geometry(self) -> tuple[int, ...]:
        return *self.kernel, self.stride, self.padding, self.dilation

    def inputs(self) -> tuple[Tensor, ...]:
        """Image, offset (a tap moves by about two pixels, some far outside), mask."""
        batch, _, *size = self.image
        out_size = [
            (extent + 2 * self.padding - self.dilation * (kernel - 1) - 1) // self.stride + 1
            for extent, kernel in zip(size, self.kernel, strict=True)
        ]
        taps = self.kernel[0] * self.kernel[1]
        offset = 2 * torch.randn(batch, 2 * taps, *out_size, device="cuda")
        offset[torch.rand_like(offset) < 0.01] = 1e30
        return torch.randn(self.image, device="cuda"), offset, torch.rand(batch, taps, *out_size, device="cuda")


CASES = {
    "stage three of UniAD-base": Case((6, 256, 58, 100)),
    "stage four of UniAD-base": Case((6, 512, 29, 50)),
    "stride two": Case((2, 64, 58, 101), stride=2),
    "dilation": Case((2, 96, 17, 19), padding=2, dilation=2),
    "not square": Case((1, 32, 9, 8), kernel=(1, 3), stride=2, padding=0),
    "many channels": Case((1, 2048, 5, 7)),
    "one position": Case((1, 32, 1, 1)),
}


def expected(case: Case, image: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
    """[N, T*C, Ho, Wo] in float64."""
    wide = (image.double(), offset.double(), mask.double())
    samples = tap_samples(*wide, case.kernel, case.stride, case.padding, case.dilation)
    return samples[:, 0].transpose(1, 2).reshape(len(image), -1, *mask.shape[2:])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_samples(case: Case, dtype: torch.dtype) -> None:
    image, offset, mask = case.inputs()
    image = image.to(dtype)
    samples = sample_taps(image, offset, mask, *case.geometry, dtype)
    assert samples.dtype == dtype
    assert samples.is_contiguous(memory_format=torch.channels_last)
    assert relative_error(samples, expected(case, image, offset, mask)) <= TOLERANCE[dtype]


def test_inputs_of_any_layout() -> None:
    case = CASES["dilation"]
    image, offset, mask = case.inputs()
    for laid_out in (padded, turned, lambda x: x.contiguous(memory_format=torch.channels_last)):
        samples = sample_taps(laid_out(image), laid_out(offset), laid_out(mask), *case.geometry, torch.float32)
        assert relative_error(samples, expected(case, image, offset, mask)) <= TOLERANCE[torch.float32]


def test_offsets_and_masks_of_one_image() -> None:
    """As a convolution gives them, which stores channels last."""
    case = CASES["stage three of UniAD-base"]
    image, offset, mask = case.inputs()
    both = torch.cat((offset, mask), 1).contiguous(memory_format=torch.channels_last)
    samples = sample_taps(image, *both.split((18, 9), 1), *case.geometry, torch.float32)
    assert relative_error(samples, expected(case, image, offset, mask)) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("far", [1e3, 1e30, float("inf"), float("nan")])
def test_far_outside_the_image_is_zero(far: float) -> None:
    case = CASES["dilation"]
    image, offset, mask = case.inputs()
    assert not sample_taps(image, offset + far, mask, *case.geometry, torch.float32).any()


PRODUCTS = {Precision.FP32: 2e-5, Precision.TF32: 1e-3, Precision.FP16: 1e-3, Precision.BF16: 8e-3}
"""As `TOLERANCE`: a product has two rounded factors, and sums many."""


@pytest.mark.parametrize("precision", PRODUCTS)
@pytest.mark.parametrize("name", ["stage three of UniAD-base", "stage four of UniAD-base"])
def test_convolution_as_a_product(name: str, precision: Precision) -> None:
    case = CASES[name]
    image, offset, mask = case.inputs()
    channels = case.image[1]
    weight = torch.randn(channels, channels, 3, 3, device="cuda") / 48
    parts = weight_parts(weight.permute(0, 2, 3, 1).reshape(channels, 1, 1, -1).contiguous(), precision)
    arrived = torch.zeros(2**16, dtype=torch.int32, device="cuda")
    dtype = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}.get(precision, torch.float32)
    samples = sample_taps(image, offset, mask, *case.geometry, dtype)
    convolved = conv2d(samples, parts, None, None, arrived, 1, 0, False, False)
    exact = modulated_deformable_convolution._init_fn(*(x.double() for x in (image, offset, mask, weight)), 1, 1, 1)
    assert relative_error(convolved, exact) <= PRODUCTS[precision]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["stage three of UniAD-base", "stage four of UniAD-base"])
def test_convolution_as_a_product_of_cudnn(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    image, offset, mask = case.inputs()
    channels = case.image[1]
    weight = torch.randn(channels, channels, 3, 3, device="cuda") / 48
    filters = weight.permute(0, 2, 3, 1).reshape(channels, -1, 1, 1).to(dtype, memory_format=torch.channels_last)
    samples = sample_taps(image, offset, mask, *case.geometry, dtype)
    convolved = conv2d_relu(samples, filters, torch.zeros(channels, device="cuda", dtype=dtype), None, 1, 0)
    exact = modulated_deformable_convolution._init_fn(*(x.double() for x in (image, offset, mask, weight)), 1, 1, 1)
    assert relative_error(convolved, exact.relu()) <= TOLERANCE[dtype]
