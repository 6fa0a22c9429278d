"""Convolution blocks of the occupancy head, in the official checkpoint's layout.

Feature maps are [N, C, H, W]; N counts occupancy steps, or is one.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from toolkit.config.model import ModelConfig


class Resampling(nn.Module):
    """Bilinear resampling of the BEV to the occupancy grid, which has as many cells, of another size; zeros outside."""

    rows: Tensor
    columns: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        bev, cell = config.bev, config.occupancy.cell_metres
        self.register_buffer("rows", interpolation(bev.height, bev.y_range, cell), persistent=False)
        self.register_buffer("columns", interpolation(bev.width, bev.x_range, cell).T.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same."""
        return self.rows @ (x @ self.columns)


def interpolation(cells: int, bounds: tuple[float, float], cell_metres: float) -> Tensor:
    """Weights [cells, cells] of the BEV's cells between bounds in metres, for each cell of a grid around 0."""
    index = torch.arange(cells, dtype=torch.float64)
    metres = (index + 0.5 - cells / 2) * cell_metres
    source = (metres - bounds[0]) / (bounds[1] - bounds[0]) * cells - 0.5
    return (1 - (source[:, None] - index).abs()).clamp(min=0).float()


class ConvNormReLU(nn.Module):
    """3x3 convolution, batch normalisation, ReLU (keys ``conv``, ``bn``)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x)).relu()
        return out


class BevProjection(nn.Module):
    """Adapts the BEV features to occupancy: three 3x3 blocks and a 1x1 convolution (key ``conv_layers``)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        blocks = [ConvNormReLU(channels) for _ in range(3)]
        self.conv_layers = nn.Sequential(*blocks, nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_layers(x)
        return out


class Bottleneck(nn.Module):
    """Residual block that halves the resolution, rounding up (He et al. 2016, without the last ReLU)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 2
        self.layers = nn.Sequential(
            OrderedDict(
                conv_down_project=nn.Conv2d(channels, hidden, 1, bias=False),
                abn_down_project=nn.Sequential(nn.BatchNorm2d(hidden), nn.ReLU()),
                conv=nn.Conv2d(hidden, hidden, 3, stride=2, padding=1, bias=False),
                abn=nn.Sequential(nn.BatchNorm2d(hidden), nn.ReLU()),
                conv_up_project=nn.Conv2d(hidden, channels, 1, bias=False),
                abn_up_project=nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()),
            )
        )
        self.projection = nn.Sequential(
            OrderedDict(
                pool=nn.MaxPool2d(2),
                conv_skip_proj=nn.Conv2d(channels, channels, 1, bias=False),
                bn_skip_proj=nn.BatchNorm2d(channels),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, ceil(H / 2), ceil(W / 2)]."""
        # Not ceil_mode: odd edges are pooled against zeros, which matters where the features are negative.
        out: Tensor = self.layers(x) + self.projection(with_even_sides(x))
        return out


def with_even_sides(x: Tensor) -> Tensor:
    """[N, C, H, W] with a row or a column of zeros after the last one where a side is odd.

    Not by a padding operator: optimizers take one in front of a max-pool for the pool's own padding, which is minus
    infinity (ONNX Runtime up to 1.31 and onnx-simplifier do).
    """
    for axis in (-1, -2):
        if x.shape[axis] % 2:
            x = torch.cat((x, torch.zeros_like(x.narrow(axis, 0, 1))), axis)
    return x


class UpsamplingAdd(nn.Module):
    """Upsample twofold, project, fit to the skip's size and add the skip (key ``upsample_layer``)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.upsample_layer = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """[N, C, h, w] and skip [N, C, H, W] -> [N, C, H, W]."""
        return interpolate(self.upsample_layer(x), skip.shape[-2:], mode="bilinear", align_corners=False) + skip


class DecoderBlock(nn.Module):
    """Upsample twofold and refine, with a skip from the coarsest state (keys ``conv``, ``up``)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 2
        self.conv = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(channels, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.up = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, coarse: Tensor) -> Tensor:
        """[N, C, H, W] and coarse [N, C, h, w] -> [N, C, 2H, 2W]."""
        refined: Tensor = self.conv(x)
        return refined + interpolate(self.up(coarse), refined.shape[-2:], mode="nearest")


class DenseDecoder(nn.Module):
    """Two decoder blocks, ReLU between them: four times the resolution (key ``layers``)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([DecoderBlock(channels) for _ in range(2)])

    def forward(self, coarse: Tensor) -> Tensor:
        """[N, C, h, w] -> [N, C, 4h, 4w]."""
        fine = self.layers[0](coarse, coarse).relu()
        out: Tensor = self.layers[1](fine, coarse)
        return out
