"""Modulated deformable convolution (Zhu et al. 2019, "Deformable ConvNets v2")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from toolkit.errors import InputError
from toolkit.nn.tap_samples import tap_samples
from toolkit.ops.cuda import launch_on
from toolkit.ops.gradient import register_gradient
from toolkit.ops.kernel import SCALAR_BYTES, SCALARS, Kernel, Launch, Shapes, ceil_div
from toolkit.ops.spec import Attributes, CustomOp
from toolkit.ops.traced_body import NodeAttributes, TracedBody, reshape, sizes

if TYPE_CHECKING:
    from onnx_ir import Value
    from onnxscript import OpBuilder


@torch.library.custom_op("uniad::modulated_deformable_convolution", mutates_args=())
def modulated_deformable_convolution(
    image: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int, padding: int, dilation: int
) -> Tensor:
    """Convolve samples of `image` (bilinear, zeros outside) at offsets from the taps, each times its mask.

    With N images, C channels, D offset groups and T = kh*kw taps: image [N, C, H, W]; offset [N, D*T*2, Ho, Wo] as
    (y, x) in pixels; mask [N, D*T, Ho, Wo], already in [0, 1]; weight [O, C/groups, kh, kw] -> [N, O, Ho, Wo].
    Channel c takes the offsets of group c // (C/D). There is no bias: it is an addition behind.
    """
    batch, channels = image.shape[:2]
    outputs, group_channels, kernel_height, kernel_width = weight.shape
    out_height, out_width = mask.shape[2:]
    taps, groups = kernel_height * kernel_width, channels // group_channels
    samples = tap_samples(image, offset, mask, (kernel_height, kernel_width), stride, padding, dilation)
    columns = samples.view(batch, groups, group_channels * taps, out_height * out_width)
    filters = weight.reshape(groups, outputs // groups, group_channels * taps)
    return (filters @ columns).view(batch, outputs, out_height, out_width)


def output_shape(shapes: Shapes, attributes: Attributes) -> Sequence[int]:
    """As many channels as there are filters, over the positions of the mask."""
    image, _, mask, weight = shapes
    return image[0], weight[0], mask[2], mask[3]


@modulated_deformable_convolution.register_fake
def _(image: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
    return image.new_empty(output_shape([x.shape for x in (image, offset, mask, weight)], {}))


DEFORM_CONV_OPSET = 19
"""Of the standard operators, in which this one came."""


@TracedBody
def body(op: OpBuilder, attributes: NodeAttributes, image: Value, offset: Value, mask: Value, weight: Value) -> Value:
    """ONNX's DeformConv where the opset has it and the shapes are known, from which it takes the numbers of groups."""
    shapes = attributes.shapes
    if attributes.opset < DEFORM_CONV_OPSET or not shapes.keys() >= {"image", "mask", "weight"}:
        return composed(op, attributes, image, offset, mask, weight)
    (_, channels, *_), (_, all_taps, *_), weight_shape = (shapes[name] for name in ("image", "mask", "weight"))
    _, group_channels, kernel_height, kernel_width = weight_shape
    convolved: Value = op.DeformConv(
        image,
        weight,
        offset,
        None,
        mask,
        kernel_shape=[kernel_height, kernel_width],
        strides=2 * [attributes["stride"]],
        pads=4 * [attributes["padding"]],
        dilations=2 * [attributes["dilation"]],
        group=channels // group_channels,
        offset_group=all_taps // (kernel_height * kernel_width),
    )
    return convolved


def composed(
    op: OpBuilder, attributes: NodeAttributes, image: Value, offset: Value, mask: Value, weight: Value
) -> Value:
    """One GridSample for all taps, times the mask, then a matrix product with the weights of each group.

    GridSample has no mode: bilinear is its default, under a name that changed with opset 20.
    """
    stride, padding, dilation = map(attributes.tensor, ("stride", "padding", "dilation"))
    batch, channels, height, width = sizes(op, image, 4)
    outputs, group_channels, kernel_height, kernel_width = sizes(op, weight, 4)
    _, all_taps, out_height, out_width = sizes(op, mask, 4)
    area, taps, groups = out_height * out_width, kernel_height * kernel_width, channels / group_channels
    offset_groups = all_taps / taps
    count, plane_channels, group_taps = batch * offset_groups, channels / offset_groups, group_channels * taps

    def taps_of(size: Value, kernel: Value) -> Value:
        """Pixel coordinates [kernel, size] of the taps along one axis, without offsets."""
        starts = op.Range(0, op.Squeeze(size), 1) * stride - padding
        return op.CastLike(op.Unsqueeze(op.Range(0, op.Squeeze(kernel), 1) * dilation, [1]) + starts, image)

    moved = reshape(op, offset, count, kernel_height, kernel_width, [2], out_height, out_width)
    y = op.Gather(moved, 0, axis=3) + op.Unsqueeze(taps_of(out_height, kernel_height), [1, 3])
    x = op.Gather(moved, 1, axis=3) + op.Unsqueeze(taps_of(out_width, kernel_width), [1])
    grid_y = (y * 2.0 + 1.0) / op.CastLike(height, image) - 1.0
    grid_x = (x * 2.0 + 1.0) / op.CastLike(width, image) - 1.0
    grid = op.Concat(op.Unsqueeze(grid_x, [-1]), op.Unsqueeze(grid_y, [-1]), axis=-1)
    grid = reshape(op, grid, count, taps * out_height, out_width, [2])
    planes = reshape(op, image, count, plane_channels, height, width)
    sampled = op.GridSample(planes, grid, padding_mode="zeros")
    by_group = reshape(op, sampled, batch, offset_groups, plane_channels, taps, area)
    masked = by_group * reshape(op, mask, batch, offset_groups, [1], taps, area)
    columns = reshape(op, masked, batch, groups, group_taps, area)
    filters = reshape(op, weight, groups, outputs / groups, group_taps)
    return reshape(op, op.MatMul(filters, columns), batch, outputs, out_height, out_width)


def example() -> tuple[Tensor, Tensor, Tensor, Tensor, int, int, int]:
    """Two channels of 5x6 pixels, four filters of 3x3 taps, shifted by about a pixel."""
    random = torch.Generator().manual_seed(0)
    image, weight = torch.randn(1, 2, 5, 6, generator=random), torch.randn(4, 2, 3, 3, generator=random)
    offset, mask = torch.randn(1, 18, 5, 6, generator=random), torch.rand(1, 9, 5, 6, generator=random)
    return image, offset, mask, weight, 1, 1, 1


PIXELS, WARP_OUTPUTS, MOST_OUTPUT_WARPS = 32, 64, 4
"""A block computes results for so many positions; a row of two warps in it, for so many of the output channels."""

TAPS_AT_ONCE = 9
"""Taps of a larger kernel are gone through in parts."""


def check_sizes(shapes: Shapes) -> None:
    """Raise InputError unless the kernel finds in the inputs all that it reads."""
    (batch, channels, *_), offset, mask, (outputs, group_channels, kernel_height, kernel_width) = shapes
    if mask[0] != batch or tuple(offset) != (batch, 2 * mask[1], mask[2], mask[3]):
        raise InputError(
            f"deformable convolution has {batch} images, a mask {list(mask)} and offsets {list(offset)}; the offsets "
            "have twice as many channels as the mask, and all else alike"
        )
    if mask[1] % (kernel_height * kernel_width) or channels % group_channels or outputs % (channels // group_channels):
        raise InputError(
            f"deformable convolution of {channels} channels with a weight {list(shapes[3])} and a mask {list(mask)}: "
            "channels and outputs do not divide into groups, or the mask into sets of taps"
        )


def plan(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
    """A block serves a run of neighbouring positions and up to 256 output channels of one group, in one image."""
    (batch, channels, height, width), _, (_, all_taps, out_height, out_width), weight = shapes
    outputs, group_channels, kernel_height, kernel_width = weight
    check_sizes(shapes)
    taps, groups = kernel_height * kernel_width, channels // group_channels
    offset_groups = all_taps // taps
    group_outputs = outputs // groups
    warps = next(n for n in (1, 2, MOST_OUTPUT_WARPS) if n * WARP_OUTPUTS >= group_outputs or n == MOST_OUTPUT_WARPS)
    # Runs of a filter's weights that are multiplied one after another start at multiples of these sizes.
    runs = (group_channels * taps, channels // offset_groups * taps) if taps <= TAPS_AT_ONCE else (1,)
    macros: dict[str, str | int] = {
        "SCALAR": SCALARS[dtype],
        "KERNEL_HEIGHT": kernel_height,
        "KERNEL_WIDTH": kernel_width,
        "STRIDE": attributes["stride"],
        "PADDING": attributes["padding"],
        "DILATION": attributes["dilation"],
        "OUTPUT_WARPS": warps,
        "FILTER_VECTOR": math.gcd(16 // SCALAR_BYTES[dtype], *runs),
    }
    integers = (channels, height, width, outputs, out_height, out_width, groups, offset_groups)
    tiles = ceil_div(group_outputs, warps * WARP_OUTPUTS)
    grid = (ceil_div(out_height * out_width, PIXELS), tiles * groups, batch)
    return Launch(macros, integers, grid, 2 * 32 * warps)


KERNEL = Kernel(Path(__file__).with_name("kernel.cu"), "modulated_deformable_convolution", plan)
MODULATED_DEFORMABLE_CONVOLUTION = CustomOp(
    "ModulatedDeformableConvolution",
    modulated_deformable_convolution,
    body,
    KERNEL,
    example,
    output_shape,
    opset=DEFORM_CONV_OPSET,
)

register_gradient(MODULATED_DEFORMABLE_CONVOLUTION)


@torch.library.impl("uniad::modulated_deformable_convolution", "cuda")
def _(image: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
    inputs = (image.contiguous(), offset.contiguous(), mask.contiguous(), weight.contiguous())
    output = image.new_empty(output_shape([x.shape for x in inputs], {}))
    return launch_on(KERNEL, inputs, output, stride=stride, padding=padding, dilation=dilation)
