"""Rotation of a feature map around a pixel position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from toolkit.ops.cuda import launch_on
from toolkit.ops.kernel import SCALARS, Kernel, Launch, Shapes, ceil_div
from toolkit.ops.spec import Attributes, CustomOp


@torch.library.custom_op("uniad::rotate", mutates_args=())
def rotate(image: Tensor, angle: Tensor, center: Tensor, interpolation: str) -> Tensor:
    """Rotate image [C, H, W] by angle [1] degrees around center [2] (x, y in pixels), zeros outside.

    `interpolation` is "nearest" (ties to the even pixel) or "bilinear". The centre may lie outside the image.
    """
    _, height, width = image.shape
    radians = angle * (-math.pi / 180)
    cos, sin = radians.cos(), radians.sin()
    cx, cy = (center - center.new_tensor([width, height]) * 0.5).unbind()
    y = torch.arange(height, dtype=image.dtype, device=image.device).view(-1, 1) - (height - 1) / 2
    x = torch.arange(width, dtype=image.dtype, device=image.device).view(1, -1) - (width - 1) / 2
    source_x = cos * x + sin * y + (cx - cx * cos - cy * sin)
    source_y = cos * y - sin * x + (cy + cx * sin - cy * cos)
    grid = torch.stack((source_x * (2 / width), source_y * (2 / height)), -1)
    return grid_sample(image[None], grid[None], mode=interpolation, padding_mode="zeros", align_corners=False)[0]


def output_shape(shapes: Shapes, attributes: Attributes) -> Sequence[int]:
    """That of the image."""
    return shapes[0]


@rotate.register_fake
def _(image: Tensor, angle: Tensor, center: Tensor, interpolation: str) -> Tensor:
    return image.new_empty(output_shape([image.shape], {}))


def body(attributes: Attributes) -> str:
    """The inverse rotation of the pixel grid, then GridSample in the mode of the attribute.

    Bilinear is its default, under a name that changed with opset 20.
    """
    mode = 'mode: string = "nearest", ' if attributes["interpolation"] == "nearest" else ""
    return f"""
    <domain: "uniad", opset_import: ["" : 18]>
    Rotate <interpolation> (image, angle, center) => (output)
    {{
        zero = Constant <value_int: int = 0> ()
        one = Constant <value_int: int = 1> ()
        first = Constant <value_ints: ints = [0]> ()
        second = Constant <value_ints: ints = [1]> ()
        last = Constant <value_ints: ints = [-1]> ()
        column = Constant <value_ints: ints = [-1, 1]> ()
        half_float = Constant <value_float: float = 0.5> ()
        half = CastLike (half_float, image)
        degree = Constant <value_float: float = -0.017453292519943295> ()
        degree_like = CastLike (degree, image)
        radians = Mul (angle, degree_like)
        cos = Cos (radians)
        sin = Sin (radians)
        height = Shape <start: int = 1, end: int = 2> (image)
        width = Shape <start: int = 2, end: int = 3> (image)
        height_like = CastLike (height, image)
        width_like = CastLike (width, image)
        half_height = Mul (height_like, half)
        half_width = Mul (width_like, half)
        center_x = Gather (center, first)
        center_y = Gather (center, second)
        cx = Sub (center_x, half_width)
        cy = Sub (center_y, half_height)
        rows_count = Squeeze (height)
        columns_count = Squeeze (width)
        row_index = Range (zero, rows_count, one)
        column_index = Range (zero, columns_count, one)
        row_like = CastLike (row_index, image)
        column_like = CastLike (column_index, image)
        row_centre = Sub (half_height, half)
        column_centre = Sub (half_width, half)
        y_row = Sub (row_like, row_centre)
        x = Sub (column_like, column_centre)
        y = Reshape (y_row, column)
        cx_cos = Mul (cx, cos)
        cy_sin = Mul (cy, sin)
        cx_sin = Mul (cx, sin)
        cy_cos = Mul (cy, cos)
        tx_part = Sub (cx, cx_cos)
        tx = Sub (tx_part, cy_sin)
        ty_part = Add (cy, cx_sin)
        ty = Sub (ty_part, cy_cos)
        x_cos = Mul (x, cos)
        x_sin = Mul (x, sin)
        y_cos = Mul (y, cos)
        y_sin = Mul (y, sin)
        x_turned = Add (x_cos, y_sin)
        y_turned = Sub (y_cos, x_sin)
        source_x = Add (x_turned, tx)
        source_y = Add (y_turned, ty)
        grid_x = Div (source_x, half_width)
        grid_y = Div (source_y, half_height)
        grid_x3 = Unsqueeze (grid_x, last)
        grid_y3 = Unsqueeze (grid_y, last)
        grid3 = Concat <axis: int = -1> (grid_x3, grid_y3)
        grid = Unsqueeze (grid3, first)
        batch = Unsqueeze (image, first)
        sampled = GridSample <{mode}padding_mode: string = "zeros"> (batch, grid)
        output = Squeeze (sampled, first)
    }}
    """


def example() -> tuple[Tensor, Tensor, Tensor, str]:
    """A ramp of 1x5x6 pixels, turned by 30 degrees around its centre."""
    ramp = torch.arange(30.0).view(1, 5, 6)
    return ramp, torch.tensor([30.0]), torch.tensor([3.0, 2.5]), "bilinear"


THREADS = 128
LARGE = 1 << 22
"""So many values fill a large GPU several times over."""


def plan(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
    """One thread for a pixel and a few channels: more of them where values are small and many."""
    channels, height, width = shapes[0]
    thread_channels = 8 if dtype == "float16" and channels * height * width >= LARGE else 4
    macros: dict[str, str | int] = {
        "SCALAR": SCALARS[dtype],
        "NEAREST": int(attributes["interpolation"] == "nearest"),
        "CHANNELS_PER_THREAD": thread_channels,
    }
    grid = (ceil_div(height * width, THREADS), ceil_div(channels, thread_channels), 1)
    return Launch(macros, (channels, height, width), grid, THREADS)


KERNEL = Kernel(Path(__file__).with_name("kernel.cu"), "rotate", plan)
ROTATE = CustomOp("Rotate", rotate, body, KERNEL, example, output_shape)


@rotate.register_kernel("cuda")
def _(image: Tensor, angle: Tensor, center: Tensor, interpolation: str) -> Tensor:
    inputs = (image.contiguous(), angle.contiguous(), center.contiguous())
    return launch_on(KERNEL, inputs, torch.empty_like(inputs[0]), interpolation=interpolation)
