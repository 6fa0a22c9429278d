"""The kernel of modulated deformable convolution against float64, on fresh random inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from custom_ops.modulated_deformable_convolution.op import modulated_deformable_convolution
from tests.gpu.parity import TOLERANCE, assert_parity, padded, shifted, turned

pytestmark = pytest.mark.usefixtures("poisoned_memory")


@dataclass(frozen=True)
class Case:
    """Shapes of image and weight, the number of sets of offsets, and the geometry."""

    image: tuple[int, int, int, int]
    weight: tuple[int, int, int, int]
    offset_groups: int = 1
    stride: int = 1
    padding: int = 1
    dilation: int = 1

    @property
    def attributes(self) -> tuple[int, int, int]:
        return self.stride, self.padding, self.dilation

    def inputs(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Image, offset (a tap moves by about two pixels), mask, weight."""
        batch, _, *size = self.image
        out_size = [
            (extent + 2 * self.padding - self.dilation * (kernel - 1) - 1) // self.stride + 1
            for extent, kernel in zip(size, self.weight[2:], strict=True)
        ]
        taps = self.offset_groups * self.weight[2] * self.weight[3]
        inputs = (
            torch.randn(self.image, device="cuda"),
            2 * torch.randn(batch, 2 * taps, *out_size, device="cuda"),
            torch.rand(batch, taps, *out_size, device="cuda"),
            torch.randn(self.weight, device="cuda"),
        )
        return tuple(x.to(dtype) for x in inputs)


CASES = {
    "stage three of UniAD-base": Case((6, 256, 58, 100), (256, 256, 3, 3)),
    "stage four of UniAD-base": Case((6, 512, 29, 50), (512, 512, 3, 3)),
    "stride two into stage four": Case((6, 512, 58, 100), (512, 512, 3, 3), stride=2),
    "groups, more sets of offsets": Case((2, 24, 17, 19), (10, 12, 3, 3), 4, padding=2, dilation=2),
    "a set of offsets for each channel": Case((2, 6, 9, 7), (130, 6, 3, 3), 6),
    "a group for each channel": Case((2, 6, 9, 7), (12, 1, 3, 3), 2),
    "not square": Case((1, 5, 9, 8), (7, 5, 1, 3), stride=2, padding=0),
    "1x1": Case((1, 3, 4, 5), (70, 3, 1, 1), 3, padding=0),
    "5x5": Case((2, 20, 15, 14), (33, 20, 5, 5), 2, padding=2),
    "more outputs than a block has": Case((1, 16, 12, 11), (300, 16, 3, 3)),
    "no images": Case((0, 3, 4, 5), (2, 3, 1, 1), padding=0),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_float64(case: Case, dtype: torch.dtype) -> None:
    assert_parity(modulated_deformable_convolution, case.inputs(dtype), *case.attributes)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("laid_out", [shifted, padded, turned])
def test_strided_inputs(laid_out: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    case = CASES["groups, more sets of offsets"]
    inputs = tuple(laid_out(x) for x in case.inputs(dtype))
    assert_parity(modulated_deformable_convolution, inputs, *case.attributes)


def test_one_image_for_all_offsets() -> None:
    case = CASES["groups, more sets of offsets"]
    image, *rest = case.inputs(torch.float32)
    assert_parity(modulated_deformable_convolution, (image[:1].expand_as(image), *rest), *case.attributes)


@pytest.mark.parametrize("far", [1e3, 1e30, float("inf"), float("nan")])
def test_far_outside_the_image_is_zero(far: float) -> None:
    case = CASES["groups, more sets of offsets"]
    image, offset, mask, weight = case.inputs(torch.float32)
    assert not modulated_deformable_convolution(image, offset + far, mask, weight, *case.attributes).any()
