"""The kernel of BEV rotation against float64, on fresh random inputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from custom_ops.rotate.op import rotate
from tests.gpu.parity import TOLERANCE, padded, shifted, turned

pytestmark = pytest.mark.usefixtures("poisoned_memory")

IMAGES = {
    "UniAD-tiny": (256, 50, 50),
    "UniAD-base": (256, 200, 200),
    "odd sizes": (19, 50, 47),
    "one pixel": (1, 1, 1),
    "no channels": (0, 5, 4),
}
ANGLES = (-173.0, 0.0, 1.5, 90.0)


def assert_rotated(image: Tensor, angle: Tensor, center: Tensor, interpolation: str) -> None:
    """As in float64 to the tolerance; nearest save for pixels whose source lies within rounding of a pixel border."""
    actual = rotate(image, angle, center, interpolation)
    expected = rotate._init_fn(image.double(), angle.double(), center.double(), interpolation)
    assert (actual.dtype, actual.shape) == (image.dtype, image.shape)
    assert not actual.isnan().any()
    differs = (actual.double() - expected).abs() > 4e-3 * expected.abs() + 4e-3
    assert differs.double().mean().nan_to_num() <= (2e-3 if interpolation == "nearest" else 0)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("shape", IMAGES.values(), ids=IMAGES)
def test_equals_float64(shape: tuple[int, ...], angle: float, interpolation: str, dtype: torch.dtype) -> None:
    """Around (100, 100), as the network does whatever the size of its BEV."""
    image = torch.randn(shape, device="cuda").to(dtype)
    center = torch.tensor([100.0, 100.0], device="cuda", dtype=dtype)
    assert_rotated(image, torch.tensor([angle], device="cuda", dtype=dtype), center, interpolation)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("laid_out", [shifted, padded, turned])
def test_strided_inputs(laid_out: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    image = torch.randn(19, 50, 47, device="cuda")
    pose = (torch.tensor([10.5], device="cuda"), torch.tensor([20.0, 30.0], device="cuda"))
    image, angle, center = (laid_out(x.to(dtype)) for x in (image, *pose))
    assert_rotated(image, angle, center, "bilinear")


def test_one_plane_for_all_channels() -> None:
    plane = torch.randn(1, 50, 47, device="cuda").expand(19, 50, 47)
    assert_rotated(plane, torch.tensor([10.5], device="cuda"), torch.tensor([20.0, 30.0], device="cuda"), "bilinear")
