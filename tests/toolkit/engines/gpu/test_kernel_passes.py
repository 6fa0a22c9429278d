"""Which products become calls of the toolkit's kernels, in each precision, and that results stay.

On a CPU the operators compute by torch in FP32, with weights rounded as the precision asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.operators import REDUCED
from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, calls
from toolkit.engines.gpu.compiled.passes.remove_noops import remove_noops
from toolkit.engines.gpu.compiled.passes.use_attention import use_attention
from toolkit.engines.gpu.compiled.passes.use_convolution import use_convolution
from toolkit.engines.gpu.compiled.passes.use_linear import LARGE, use_linear
from toolkit.nn.attention import MASKED_LOGIT, MultiheadAttention, mask_logits
from toolkit.precision import Precision

pytestmark = pytest.mark.thorough

KernelPass = Callable[[GraphModule, Precision], int]
OURS = torch.ops.uniad_gpu
TOLERANCE = {Precision.FP32: 2e-6, Precision.TF32: 2e-3, Precision.FP16: 2e-3, Precision.BF16: 2e-2}
"""Of the largest result. FP32 adds the same products in another order; in the others weights keep 11 bits, or 8."""


class Function(nn.Module):
    """A function of tensors as a module with layers of its own."""

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self, *inputs)


def x(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def apply(
    kernel_pass: KernelPass, module: nn.Module, *inputs: Tensor, precision: Precision = Precision.FP32
) -> tuple[int, GraphModule]:
    """The number of replaced calls, and the graph; its result must stay that of `module`."""
    gm = torch.export.export(module.eval(), inputs, strict=False).module()
    assert isinstance(gm, GraphModule)
    remove_noops(gm)
    count = kernel_pass(gm, precision)
    gm.recompile()
    expected, actual = module(*inputs), gm(*inputs)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE[precision] * expected.abs().max().item())
    return count, gm


def argument(node: Node, name: str) -> Any:
    """What an operator's call is given for a parameter."""
    names = [parameter.name for parameter in node.target._schema.arguments]  # type: ignore[union-attr]
    return node.args[names.index(name)]


# Linear layers


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


# Convolutions


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


# Attention


@pytest.mark.parametrize(
    "valid",
    [
        None,
        torch.tensor([True, False, True, True, False]),
        torch.tensor([False] * 5),
        torch.tensor([[True], [False], [True]]),
        torch.tensor([[True] * 5, [False] * 5, [False] * 4 + [True]]),
        torch.tensor([[[True] * 5] * 3, [[False, True] * 2 + [False]] * 3]),
    ],
    ids=["no mask", "by key", "no valid key", "by query", "by both", "by head"],
)
def test_attention(valid: Tensor | None) -> None:
    """A query without a valid key gives the average of the values, as before."""
    masks = () if valid is None else (valid,)
    module = Function(lambda m, q, k, *valid: m.attend(q, k, k, *valid), attend=MultiheadAttention(32, 2))
    count, gm = apply(use_attention, module, x(3, 32), x(5, 32), *masks)
    assert count == 1
    assert not calls(gm, Aten.softmax.int, Aten.matmul.default)


def test_attention_of_several_batches() -> None:
    """Four axes instead of three, and the mask of each batch."""
    module = Function(lambda m, q, k, valid: m.attend(q, k, k, valid), attend=MultiheadAttention(32, 2))
    valid = x(4, 1, 1, 5) > 0
    count, gm = apply(use_attention, module, x(4, 3, 32), x(4, 5, 32), valid)
    assert count == 1
    (attention,) = calls(gm, OURS.attention.default)
    assert attention.meta["val"].shape == (4, 3, 2, 16)


@pytest.mark.parametrize("precision", Precision)
def test_attention_knows_its_precision(precision: Precision) -> None:
    module = Function(lambda m, q: m.attend(q, q, q), attend=MultiheadAttention(32, 2))
    _, gm = apply(use_attention, module, x(3, 32), precision=precision)
    (attention,) = calls(gm, OURS.attention.default)
    assert argument(attention, "precision") == str(precision)
    assert argument(attention, "scale") == 16**-0.5


def attend(_: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-1, -2)).softmax(-1) @ v


@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        ((2, 1, 16), (2, 5, 16), (2, 5, 16)),
        ((2, 3, 24), (2, 5, 24), (2, 5, 24)),
        ((2, 3, 16), (2, 5, 16), (2, 5, 32)),
        ((2, 3, 16), (1, 5, 16), (1, 5, 16)),
    ],
    ids=["one query", "odd width", "values of another width", "keys shared by batches"],
)
def test_attention_that_stays(query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...]) -> None:
    assert apply(use_attention, Function(attend), x(*query), x(*key), x(*value))[0] == 0


@pytest.mark.parametrize(("masked", "count"), [(MASKED_LOGIT, 1), (-1.0, 0), (float("-inf"), 0)])
def test_only_the_toolkits_own_masked_logit_is_replaced_in_the_kernel(masked: float, count: int) -> None:
    def attend_masked(_: nn.Module, q: Tensor, valid: Tensor) -> Tensor:
        return torch.where(valid, q @ q.transpose(-1, -2), masked).softmax(-1) @ q

    assert apply(use_attention, Function(attend_masked), x(2, 3, 16), torch.tensor([True, False, True]))[0] == count


def test_a_mask_of_more_batches_than_the_attention_stays() -> None:
    module = Function(lambda m, q, valid: mask_logits(q @ q.transpose(-1, -2), valid).softmax(-1) @ q)
    assert apply(use_attention, module, x(1, 3, 16), x(2, 1, 3) > 0)[0] == 0
