"""Deformable convolution as a product over samples: which become so for the GPU session, and that results stay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional

from custom_ops.modulated_deformable_convolution.op import modulated_deformable_convolution
from custom_ops.modulated_deformable_convolution.product import convolve_samples
from plugins.image_encoder.plugin import SUBMODULE
from toolkit.engines.gpu.compiled.export import export_graph
from toolkit.engines.gpu.compiled.operators import sample_taps
from toolkit.engines.gpu.compiled.passes.graph_edit import calls
from toolkit.engines.gpu.compiled.pipeline import optimize
from toolkit.precision import Precision

pytestmark = pytest.mark.thorough

OURS = torch.ops.uniad_gpu
TOLERANCE = {Precision.FP32: 2e-6, Precision.TF32: 2e-3, Precision.FP16: 2e-3, Precision.BF16: 2e-2}
"""Of the largest result. FP32 adds the same products in another order; in the others factors keep 11 bits, or 8."""
STORED = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}


def x(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Deformable(nn.Module):
    """A deformable convolution with batch norm and ReLU between two pointwise ones, as in a bottleneck."""

    def __init__(self, channels: int = 32, *, sets: int = 1, groups: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.after = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.offset, self.mask = (
            nn.Conv2d(channels, 18 * sets, 3, padding=1),
            nn.Conv2d(channels, 9 * sets, 3, padding=1),
        )
        self.weight = nn.Parameter(x(channels, channels // groups, 3, 3) / 8)
        self.norm = nn.BatchNorm2d(channels)
        self.norm.running_mean = x(channels)

    def forward(self, image: Tensor) -> Tensor:
        image = self.before(image).relu()
        moved = modulated_deformable_convolution(
            image, self.offset(image), self.mask(image).sigmoid(), self.weight, 1, 1, 1
        )
        out: Tensor = self.after(self.norm(moved).relu())
        return out


def optimized(module: nn.Module, image: Tensor, precision: Precision) -> tuple[dict[str, int], GraphModule]:
    """Counts of the passes, and the graph; its result must stay that of `module`."""
    with torch.no_grad():
        gm = export_graph(module.eval(), [image])
        counts = optimize(gm, precision, (convolve_samples,))
        expected, actual = module(image), gm(image)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE[precision] * expected.abs().max().item())
    return counts, gm


@pytest.mark.parametrize("precision", Precision)
def test_a_convolution_becomes_samples_and_a_product(precision: Precision) -> None:
    """Batch norm and ReLU are the product's own, and the samples have the type of its factors."""
    counts, gm = optimized(Deformable(), x(2, 32, 6, 7), precision)
    assert counts["convolve_samples"] == 1
    assert not calls(gm, torch.ops.uniad.modulated_deformable_convolution.default)
    (samples,) = calls(gm, OURS.sample_taps.default)
    assert samples.args[-1] == STORED.get(precision, torch.float32)
    assert samples.args[0].meta["val"].dtype == STORED.get(precision, torch.float32)  # type: ignore[union-attr]
    assert len(calls(gm, OURS.conv2d.default)) == 5
    assert not calls(gm, OURS.conv2d_relu.default)
    assert not calls(gm, torch.ops.aten.batch_norm.default, torch.ops.aten.relu.default)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_a_product_over_many_channels_is_cudnns_in_fp16(precision: Precision) -> None:
    _, gm = optimized(Deformable(256), x(1, 256, 3, 4), precision)
    (samples,) = calls(gm, OURS.sample_taps.default)
    assert samples.args[-1] == STORED.get(precision, torch.float32)
    assert len(calls(gm, OURS.conv2d_relu.default)) == (precision is Precision.FP16)


@pytest.mark.parametrize(
    "module", [Deformable(48), Deformable(sets=2), Deformable(64, groups=2)], ids=["channels", "sets", "groups"]
)
def test_convolutions_that_stay(module: Deformable) -> None:
    counts, _ = optimized(module, x(1, module.weight.shape[0], 5, 6), Precision.FP32)
    assert counts["convolve_samples"] == 0


def test_a_computed_weight_stays() -> None:
    class Computed(Deformable):
        def forward(self, image: Tensor) -> Tensor:
            weight = self.weight * image.mean()
            out: Tensor = modulated_deformable_convolution(image, self.offset(image), self.mask(image), weight, 1, 1, 1)
            return out

    assert optimized(Computed(), x(1, 32, 5, 6), Precision.FP32)[0]["convolve_samples"] == 0


def test_samples_that_others_read_stay_fp32() -> None:
    class Read(Deformable):
        def forward(self, image: Tensor) -> Tensor:
            samples = sample_taps(image, self.offset(image), self.mask(image), 3, 3, 1, 1, 1, torch.float32)
            out: Tensor = functional.conv2d(samples, self.weight.permute(0, 2, 3, 1).reshape(32, -1, 1, 1))
            return out + samples.mean()  # type: ignore[no-any-return]

    counts, gm = optimized(Read(), x(1, 32, 5, 6), Precision.FP16)
    assert counts["store_samples"] == 0
    assert calls(gm, OURS.sample_taps.default)[0].args[-1] == torch.float32


def test_the_image_encoder_asks_for_it() -> None:
    assert SUBMODULE.gpu_rewrites is not None
    assert convolve_samples in SUBMODULE.gpu_rewrites()


@pytest.mark.parametrize("laid_out", [torch.Tensor.contiguous, lambda x: x.to(memory_format=torch.channels_last)])
def test_sample_taps_is_an_operator_that_torch_can_compile(laid_out: Callable[[Tensor], Tensor]) -> None:
    image, offset, mask = laid_out(x(2, 32, 6, 7)), laid_out(x(2, 18, 6, 7)), laid_out(x(2, 9, 6, 7))
    for dtype in (torch.float32, torch.float16):
        torch.library.opcheck(sample_taps, (image, offset, mask, 3, 3, 1, 1, 1, dtype))
