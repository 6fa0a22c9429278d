"""Rotation of a feature map around a pixel position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from toolkit.ops.cuda import launch_on
from toolkit.ops.gradient import register_gradient
from toolkit.ops.kernel import SCALARS, Kernel, Launch, Shapes, ceil_div
from toolkit.ops.spec import Attributes, CustomOp
from toolkit.ops.traced_body import NodeAttributes, TracedBody

if TYPE_CHECKING:
    from onnx_ir import Value
    from onnxscript import OpBuilder


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


@TracedBody
def body(op: OpBuilder, attributes: NodeAttributes, image: Value, angle: Value, center: Value) -> Value:
    """The inverse rotation of the pixel grid, then GridSample in the mode of the attribute.

    Bilinear is its default, under a name that changed with opset 20.
    """
    mode = {"mode": "nearest"} if attributes["interpolation"] == "nearest" else {}
    radians = angle * (-math.pi / 180)
    cos, sin = op.Cos(radians), op.Sin(radians)
    height, width = op.Shape(image, start=1, end=2), op.Shape(image, start=2, end=3)
    half_height, half_width = op.CastLike(height, image) * 0.5, op.CastLike(width, image) * 0.5
    cx, cy = op.Gather(center, [0]) - half_width, op.Gather(center, [1]) - half_height
    rows, columns = op.Range(0, op.Squeeze(height), 1), op.Range(0, op.Squeeze(width), 1)
    y = op.Reshape(op.CastLike(rows, image) - (half_height - 0.5), [-1, 1])
    x = op.CastLike(columns, image) - (half_width - 0.5)
    source_x = x * cos + y * sin + (cx - cx * cos - cy * sin)
    source_y = y * cos - x * sin + (cy + cx * sin - cy * cos)
    axes = (op.Unsqueeze(source_x / half_width, [-1]), op.Unsqueeze(source_y / half_height, [-1]))
    grid = op.Unsqueeze(op.Concat(*axes, axis=-1), [0])
    return op.Squeeze(op.GridSample(op.Unsqueeze(image, [0]), grid, padding_mode="zeros", **mode), [0])


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

register_gradient(ROTATE)


@torch.library.impl("uniad::rotate", "cuda")
def _(image: Tensor, angle: Tensor, center: Tensor, interpolation: str) -> Tensor:
    inputs = (image.contiguous(), angle.contiguous(), center.contiguous())
    return launch_on(KERNEL, inputs, torch.empty_like(inputs[0]), interpolation=interpolation)
