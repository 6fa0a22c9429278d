"""Rotation of a feature map around a pixel position."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


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


@rotate.register_fake
def _(image: Tensor, angle: Tensor, center: Tensor, interpolation: str) -> Tensor:
    return torch.empty_like(image)
