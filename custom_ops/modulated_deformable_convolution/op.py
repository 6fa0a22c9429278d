"""Modulated deformable convolution (Zhu et al. 2019, "Deformable ConvNets v2")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from toolkit.errors import InputError
from toolkit.ops.cuda import launch_on
from toolkit.ops.kernel import SCALAR_BYTES, SCALARS, Kernel, Launch, Shapes, ceil_div
from toolkit.ops.spec import Attributes, CustomOp


@torch.library.custom_op("uniad::modulated_deformable_convolution", mutates_args=())
def modulated_deformable_convolution(
    image: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int, padding: int, dilation: int
) -> Tensor:
    """Convolve samples of `image` (bilinear, zeros outside) at offsets from the taps, each times its mask.

    With N images, C channels, D offset groups and T = kh*kw taps: image [N, C, H, W]; offset [N, D*T*2, Ho, Wo] as
    (y, x) in pixels; mask [N, D*T, Ho, Wo], already in [0, 1]; weight [O, C/groups, kh, kw] -> [N, O, Ho, Wo].
    Channel c takes the offsets of group c // (C/D). There is no bias: it is an addition behind.
    """
    batch, channels, height, width = image.shape
    outputs, group_channels, kernel_height, kernel_width = weight.shape
    out_height, out_width = mask.shape[2:]
    taps, groups = kernel_height * kernel_width, channels // group_channels
    offset_groups = mask.shape[1] // taps

    def taps_of(size: int, kernel: int) -> Tensor:
        """Pixel coordinates [size, kernel] of the taps along one axis, without offsets."""
        start, step = torch.arange(size, device=image.device), torch.arange(kernel, device=image.device)
        return (start[:, None] * stride - padding + step * dilation).to(image.dtype)

    moved = offset.reshape(batch * offset_groups, kernel_height, kernel_width, 2, out_height, out_width)
    y = moved[:, :, :, 0] + taps_of(out_height, kernel_height).T[:, None, :, None]
    x = moved[:, :, :, 1] + taps_of(out_width, kernel_width).T[None, :, None, :]
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), -1)
    planes = image.reshape(batch * offset_groups, channels // offset_groups, height, width)
    sampled = grid_sample(planes, grid.flatten(1, 3), mode="bilinear", padding_mode="zeros", align_corners=False)
    area = out_height * out_width
    by_group = sampled.view(batch, offset_groups, channels // offset_groups, taps, area)
    masked = by_group * mask.reshape(batch, offset_groups, 1, taps, area)
    columns = masked.view(batch, groups, group_channels * taps, area)
    filters = weight.reshape(groups, outputs // groups, group_channels * taps)
    return (filters @ columns).view(batch, outputs, out_height, out_width)


def output_shape(shapes: Shapes, attributes: Attributes) -> Sequence[int]:
    """As many channels as there are filters, over the positions of the mask."""
    image, _, mask, weight = shapes
    return image[0], weight[0], mask[2], mask[3]


@modulated_deformable_convolution.register_fake
def _(image: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
    return image.new_empty(output_shape([x.shape for x in (image, offset, mask, weight)], {}))


def body(attributes: Attributes) -> str:
    """One GridSample for all taps, times the mask, then a matrix product with the weights of each group.

    GridSample has no mode: bilinear is its default, under a name that changed with opset 20.
    """
    return """
    <domain: "uniad", opset_import: ["" : 18]>
    ModulatedDeformableConvolution <stride, padding, dilation> (image, offset, mask, weight) => (output)
    {
        zero = Constant <value_int: int = 0> ()
        one = Constant <value_int: int = 1> ()
        stride_int = Constant <value_int: int = @stride> ()
        padding_int = Constant <value_int: int = @padding> ()
        dilation_int = Constant <value_int: int = @dilation> ()
        ones = Constant <value_ints: ints = [1]> ()
        two_ints = Constant <value_ints: ints = [2]> ()
        rest = Constant <value_ints: ints = [-1]> ()
        row_axes = Constant <value_ints: ints = [-1, 1, 1, 1]> ()
        column_axes = Constant <value_ints: ints = [-1, 1, 1]> ()
        one_float = Constant <value_float: float = 1.0> ()
        two_float = Constant <value_float: float = 2.0> ()
        unit = CastLike (one_float, image)
        two = CastLike (two_float, image)
        batch = Shape <start: int = 0, end: int = 1> (image)
        channels = Shape <start: int = 1, end: int = 2> (image)
        height = Shape <start: int = 2, end: int = 3> (image)
        width = Shape <start: int = 3, end: int = 4> (image)
        size = Shape <start: int = 2, end: int = 4> (image)
        outputs = Shape <start: int = 0, end: int = 1> (weight)
        group_channels = Shape <start: int = 1, end: int = 2> (weight)
        kernel_height = Shape <start: int = 2, end: int = 3> (weight)
        kernel_width = Shape <start: int = 3, end: int = 4> (weight)
        all_taps = Shape <start: int = 1, end: int = 2> (mask)
        out_height = Shape <start: int = 2, end: int = 3> (mask)
        out_width = Shape <start: int = 3, end: int = 4> (mask)
        out_size = Shape <start: int = 2, end: int = 4> (mask)
        area = Mul (out_height, out_width)
        taps = Mul (kernel_height, kernel_width)
        groups = Div (channels, group_channels)
        offset_groups = Div (all_taps, taps)
        planes_count = Mul (batch, offset_groups)
        plane_channels = Div (channels, offset_groups)
        group_taps = Mul (group_channels, taps)
        group_outputs = Div (outputs, groups)

        moved_shape = Concat <axis: int = 0> (planes_count, kernel_height, kernel_width, two_ints, out_size)
        moved = Reshape <allowzero: int = 1> (offset, moved_shape)
        offset_y = Gather <axis: int = 3> (moved, zero)
        offset_x = Gather <axis: int = 3> (moved, one)
        kernel_rows = Squeeze (kernel_height)
        kernel_columns = Squeeze (kernel_width)
        out_rows = Squeeze (out_height)
        out_columns = Squeeze (out_width)
        kernel_row = Range (zero, kernel_rows, one)
        kernel_column = Range (zero, kernel_columns, one)
        out_row = Range (zero, out_rows, one)
        out_column = Range (zero, out_columns, one)
        row_steps = Mul (out_row, stride_int)
        column_steps = Mul (out_column, stride_int)
        row_starts = Sub (row_steps, padding_int)
        column_starts = Sub (column_steps, padding_int)
        row_taps = Mul (kernel_row, dilation_int)
        column_taps = Mul (kernel_column, dilation_int)
        row_taps4 = Reshape (row_taps, row_axes)
        column_taps3 = Reshape (column_taps, column_axes)
        row_starts2 = Unsqueeze (row_starts, ones)
        rows = Add (row_taps4, row_starts2)
        columns_at = Add (column_taps3, column_starts)
        rows_like = CastLike (rows, image)
        columns_like = CastLike (columns_at, image)
        y = Add (offset_y, rows_like)
        x = Add (offset_x, columns_like)
        height_like = CastLike (height, image)
        width_like = CastLike (width, image)
        y_twice = Mul (y, two)
        x_twice = Mul (x, two)
        y_centre = Add (y_twice, unit)
        x_centre = Add (x_twice, unit)
        y_scaled = Div (y_centre, height_like)
        x_scaled = Div (x_centre, width_like)
        grid_y = Sub (y_scaled, unit)
        grid_x = Sub (x_scaled, unit)
        grid_y6 = Unsqueeze (grid_y, rest)
        grid_x6 = Unsqueeze (grid_x, rest)
        grid6 = Concat <axis: int = -1> (grid_x6, grid_y6)
        samples = Mul (taps, out_height)
        grid_shape = Concat <axis: int = 0> (planes_count, samples, out_width, two_ints)
        grid = Reshape <allowzero: int = 1> (grid6, grid_shape)

        planes_shape = Concat <axis: int = 0> (planes_count, plane_channels, size)
        planes = Reshape <allowzero: int = 1> (image, planes_shape)
        sampled = GridSample <padding_mode: string = "zeros"> (planes, grid)
        sampled_shape = Concat <axis: int = 0> (batch, offset_groups, plane_channels, taps, area)
        sampled5 = Reshape <allowzero: int = 1> (sampled, sampled_shape)
        mask_shape = Concat <axis: int = 0> (batch, offset_groups, ones, taps, area)
        mask5 = Reshape <allowzero: int = 1> (mask, mask_shape)
        masked = Mul (sampled5, mask5)
        columns_shape = Concat <axis: int = 0> (batch, groups, group_taps, area)
        columns = Reshape <allowzero: int = 1> (masked, columns_shape)
        filters_shape = Concat <axis: int = 0> (groups, group_outputs, group_taps)
        filters = Reshape <allowzero: int = 1> (weight, filters_shape)
        summed = MatMul (filters, columns)
        output_shape = Concat <axis: int = 0> (batch, outputs, out_size)
        output = Reshape <allowzero: int = 1> (summed, output_shape)
    }
    """


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
    "ModulatedDeformableConvolution", modulated_deformable_convolution, body, KERNEL, example, output_shape
)


@modulated_deformable_convolution.register_kernel("cuda")
def _(image: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
    inputs = (image.contiguous(), offset.contiguous(), mask.contiguous(), weight.contiguous())
    output = image.new_empty(output_shape([x.shape for x in inputs], {}))
    return launch_on(KERNEL, inputs, output, stride=stride, padding=padding, dilation=dilation)
