"""Which convolutions become calls of the toolkit's kernels, in each precision, and that results stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.toolkit.engines.gpu.kernel_passes import OURS, Function, apply, argument, x
from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, calls
from toolkit.engines.gpu.compiled.passes.use_convolution import use_convolution
from toolkit.precision import Precision

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (3, 1, 0)], ids=str
)
@pytest.mark.parametrize("precision", Precision)
def test_convolutions(size: int, stride: int, padding: int, precision: Precision) -> None:
    layer = nn.Conv2d(32, 6, size, stride, padding)
    count, gm = apply(use_convolution, layer, x(2, 32, 7, 6), precision=precision)
    assert count == 1
    (convolution,) = calls(gm, OURS.conv2d.default)
    assert convolution.meta["val"].dtype == torch.float32
    assert not calls(gm, Aten.conv2d.default)


@pytest.mark.parametrize("residual_first", [True, False])
def test_a_sum_and_its_relu_are_the_convolutions_own(residual_first: bool) -> None:
    def block(m: nn.Module, x: Tensor) -> Tensor:
        y: Tensor = m.layer(x)  # type: ignore[operator]
        return (x + y if residual_first else y + x).relu()

    count, gm = apply(use_convolution, Function(block, layer=nn.Conv2d(32, 32, 3, padding=1)), x(2, 32, 5, 6))
    assert count == 1
    (convolution,) = calls(gm, OURS.conv2d.default)
    assert argument(convolution, "relu") is True
    assert argument(convolution, "residual") is not None
    assert not calls(gm, Aten.add.Tensor, Aten.relu.default)


def test_two_convolutions_that_are_added() -> None:
    """The second is the first's residual, as where a stage of a ResNet begins."""
    module = Function(
        lambda m, x: (m.first(x) + m.second(x)).relu(),
        first=nn.Conv2d(32, 8, 3, stride=2, padding=1), second=nn.Conv2d(32, 8, 1, stride=2),
    )  # fmt: skip
    count, gm = apply(use_convolution, module, x(2, 32, 6, 6))
    assert count == 2
    assert sorted(argument(call, "relu") for call in calls(gm, OURS.conv2d.default)) == [False, True]


def test_a_sum_that_is_no_residual_stays() -> None:
    """Of a bias over the image, of a convolution with itself, and with a factor."""
    for added in (lambda y, x: y + x[:, :, :1], lambda y, x: y + y, lambda y, x: torch.add(y, x, alpha=2)):
        module = Function(lambda m, x, added=added: added(m.layer(x), x), layer=nn.Conv2d(32, 32, 1))
        count, gm = apply(use_convolution, module, x(1, 32, 5, 5))
        assert count == 1
        assert len(calls(gm, Aten.add.Tensor)) == 1


@pytest.mark.parametrize(("channels", "size", "stride", "padding"), [(3, 7, 2, 3), (3, 3, 1, 1), (4, 8, 4, 0)], ids=str)
@pytest.mark.parametrize("shape", [(12, 14), (13, 9)], ids=str)
def test_the_first_convolution_of_a_picture(
    channels: int, size: int, stride: int, padding: int, shape: tuple[int, int]
) -> None:
    """The pixels under a row of the kernel become channels: 8 pixels of 4 channels each."""
    layer = nn.Conv2d(channels, 6, size, stride, padding, bias=False)
    count, gm = apply(use_convolution, layer, x(2, channels, *shape))
    assert count == 1
    (convolution,) = calls(gm, OURS.conv2d.default)
    assert argument(convolution, "weight").meta["val"].shape == (2, 6, size, 1, 32)


def resnet_start() -> nn.Module:
    """A picture's first convolution, pooling, and a block with a residual; then something that is no convolution."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.pool(m.stem(x).relu())
        x = (m.second(m.first(x).relu()) + x).relu()
        return x.mean((2, 3))

    return Function(
        forward, stem=nn.Conv2d(3, 32, 7, 2, 3), pool=nn.MaxPool2d(3, 2, 1),
        first=nn.Conv2d(32, 64, 3, 1, 1), second=nn.Conv2d(64, 32, 1),
    )  # fmt: skip


BETWEEN = {
    Precision.FP32: torch.float32,
    Precision.TF32: torch.float32,
    Precision.FP16: torch.float16,
    Precision.BF16: torch.bfloat16,
}
"""Type of the images between convolutions."""


@pytest.mark.parametrize(("precision", "between"), BETWEEN.items())
def test_images_between_convolutions_are_stored_in_the_type_of_the_weights(
    precision: Precision, between: torch.dtype
) -> None:
    """Through pooling, and as a residual; so is the padded picture. The last is FP32."""
    count, gm = apply(use_convolution, resnet_start(), x(1, 3, 32, 40), precision=precision)
    assert count == 3
    assert argument(calls(gm, OURS.conv2d.default)[0], "x").meta["val"].dtype == between
    images = [call.meta["val"].dtype for call in calls(gm, OURS.conv2d.default, OURS.conv2d_relu.default)]
    assert images == [between, between, torch.float32]
    (pool,) = calls(gm, Aten.max_pool2d.default)
    assert pool.meta["val"].dtype == between


def between_pointwise(layer: nn.Conv2d, *, relu: bool = True, residual: bool = False) -> nn.Module:
    """`layer` between pointwise convolutions."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.first(x)
        y = m.layer(x) + x if residual else m.layer(x)
        return m.last(y.relu() if relu else y)  # type: ignore[no-any-return]

    first, last = nn.Conv2d(32, layer.in_channels, 1), nn.Conv2d(layer.out_channels, 8, 1)
    return Function(forward, first=first, layer=layer, last=last)


@pytest.mark.parametrize(("precision", "between"), BETWEEN.items())
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_3x3_convolution_with_relu_is_cudnns_in_fp16_and_bf16(
    bias: bool, residual: bool, precision: Precision, between: torch.dtype
) -> None:
    layer = nn.Conv2d(32, 32, 3, padding=1, bias=bias)
    count, gm = apply(use_convolution, between_pointwise(layer, residual=residual), x(2, 32, 6, 5), precision=precision)
    assert count == 3
    fused = calls(gm, OURS.conv2d_relu.default)
    assert len(fused) == (between != torch.float32)
    for call in fused:
        given = [argument(call, name) for name in ("x", "weight", "bias", "residual")]
        assert {node.meta["val"].dtype for node in given if node is not None} == {between}
        assert (given[3] is not None) == residual


@pytest.mark.parametrize(("precision", "between"), BETWEEN.items())
@pytest.mark.parametrize("relu", [True, False])
def test_a_large_1x1_convolution_is_the_librarys_in_fp16_and_bf16(
    relu: bool, precision: Precision, between: torch.dtype
) -> None:
    """Between others; the largest but one is too small."""
    for inputs, large in ((256, True), (224, False)):
        module = between_pointwise(nn.Conv2d(inputs, 256, 1), relu=relu)
        count, gm = apply(use_convolution, module, x(2, 32, 32, 32), precision=precision)
        assert count == 3
        by_library = calls(gm, OURS.product.default)
        assert len(by_library) == (large and between != torch.float32)
        for call in by_library:
            assert argument(call, "relu") is relu
            assert {argument(call, name).meta["val"].dtype for name in ("x", "weight", "bias")} == {between}


def test_an_fp32_image_is_rounded_for_cudnn() -> None:
    module = nn.Sequential(nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 8, 1))
    _, gm = apply(use_convolution, module, x(1, 32, 6, 5), precision=Precision.FP16)
    (call,) = calls(gm, OURS.conv2d_relu.default)
    assert argument(call, "x").meta["val"].dtype == torch.float16


@pytest.mark.parametrize(
    "module",
    [
        between_pointwise(nn.Conv2d(32, 32, 1)),
        between_pointwise(nn.Conv2d(32, 32, 3), relu=False),
        between_pointwise(nn.Conv2d(3, 32, 3)),
        nn.Sequential(nn.Conv2d(32, 8, 3), nn.ReLU()),
    ],
    ids=["1x1", "no ReLU", "few channels", "the last one"],
)
def test_convolutions_that_are_not_cudnns(module: nn.Module) -> None:
    _, gm = apply(use_convolution, module, x(1, 32, 6, 5), precision=Precision.FP16)
    assert not calls(gm, OURS.conv2d_relu.default)


def test_an_image_that_something_else_reads_as_well_is_stored_in_fp32() -> None:
    def both(m: Any, x: Tensor) -> Tensor:
        y: Tensor = m.first(x)
        out: Tensor = m.second(y) + y.mean()
        return out

    layers = {"first": nn.Conv2d(32, 32, 1), "second": nn.Conv2d(32, 32, 1)}
    _, gm = apply(use_convolution, Function(both, **layers), x(1, 32, 4, 4), precision=Precision.FP16)
    assert [call.meta["val"].dtype for call in calls(gm, OURS.conv2d.default)] == [torch.float32] * 2


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(32, 32, 3, groups=32),
        nn.Conv2d(32, 6, 3, dilation=2),
        nn.Conv2d(32, 6, 3, stride=(1, 2)),
        nn.Conv2d(32, 6, 3, padding=(0, 1)),
        nn.Conv2d(33, 6, 3),
        nn.Conv2d(3, 6, 9),
    ],
    ids=["groups", "dilation", "unequal strides", "unequal padding", "channels", "a wide kernel over a picture"],
)
def test_convolutions_that_stay(layer: nn.Conv2d) -> None:
    assert apply(use_convolution, layer, x(1, layer.in_channels, 9, 9))[0] == 0
