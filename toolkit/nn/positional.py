"""Positional encodings: sinusoidal features and the learned BEV position."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

TEMPERATURE = 10000.0


def sine_features(angle: Tensor, features: int) -> Tensor:
    """[...] angles -> [..., features]: sine at even, cosine at odd indices, wavelengths growing to 10000.

    Feature i divides the angle by 10000^(2*floor(i/2)/features) (Vaswani et al. 2017, section 3.5).
    """
    index = torch.arange(features, dtype=torch.promote_types(angle.dtype, torch.float32), device=angle.device)
    scaled = angle.unsqueeze(-1) / TEMPERATURE ** (2 * torch.div(index, 2, rounding_mode="floor") / features)
    return torch.stack((scaled[..., 0::2].sin(), scaled[..., 1::2].cos()), -1).flatten(-2)


def sine_position(xy: Tensor, features: int = 128) -> Tensor:
    """[..., 2] normalised (x, y) -> [..., 2 * features], the features of y before those of x."""
    encoded = sine_features(xy.flip(-1) * (2 * math.pi), features)
    return encoded.flatten(-2)


def sine_grid(height: int, width: int, features: int = 128) -> Tensor:
    """Fixed encoding [height * width, 2 * features] of a grid, centred by -0.5, y features before x.

    Of the default type, so that a network that is built in float64 has it exactly.
    """
    y = (torch.arange(1, height + 1) - 0.5) / (height + 1e-6)
    x = (torch.arange(1, width + 1) - 0.5) / (width + 1e-6)
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return sine_position(torch.stack((grid_x, grid_y), -1), features).flatten(0, 1)


class LearnedPosition(nn.Module):
    """Learned grid position: half the channels from the column (x), then half from the row (y)."""

    def __init__(self, height: int, width: int, features: int = 128) -> None:
        super().__init__()
        self.row_embed = nn.Embedding(height, features)
        self.col_embed = nn.Embedding(width, features)

    def forward(self) -> Tensor:
        """[height * width, 2 * features], row-major."""
        rows, columns = self.row_embed.weight, self.col_embed.weight
        shape = (rows.shape[0], columns.shape[0], -1)
        return torch.cat((columns.unsqueeze(0).expand(shape), rows.unsqueeze(1).expand(shape)), -1).flatten(0, 1)
