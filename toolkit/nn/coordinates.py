"""Normalised coordinates, logit space and the coded box."""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.config.model import BevConfig

INVERSE_SIGMOID_EPS = 1e-5


def inverse_sigmoid(x: Tensor) -> Tensor:
    """log(x / (1 - x)) with both terms at least 1e-5 (Deformable DETR's convention)."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=INVERSE_SIGMOID_EPS) / (1 - x).clamp(min=INVERSE_SIGMOID_EPS))


def to_metres(normalised: Tensor, bev: BevConfig) -> Tensor:
    """[..., 2 or 3] in [0, 1] over the BEV range -> metres in the LiDAR frame."""
    low, size = range_tensors(bev, normalised)
    return normalised * size + low


def to_normalised(metres: Tensor, bev: BevConfig) -> Tensor:
    """[..., 2 or 3] metres in the LiDAR frame -> [0, 1] over the BEV range."""
    low, size = range_tensors(bev, metres)
    return (metres - low) / size


def range_tensors(bev: BevConfig, like: Tensor) -> tuple[Tensor, Tensor]:
    """(lower corner, size) of the BEV range in metres, for as many axes as `like` has."""
    ranges = (bev.x_range, bev.y_range, bev.z_range)[: like.shape[-1]]
    low = like.new_tensor([r[0] for r in ranges])
    return low, like.new_tensor([r[1] - r[0] for r in ranges])


def bev_reference_points(height: int, width: int) -> Tensor:
    """Cell centres [height * width, 2] as (x, y) in [0, 1], of the default type; row-major, rows follow y."""
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / height,
        (torch.arange(width) + 0.5) / width,
        indexing="ij",
    )
    return torch.stack((x, y), -1).flatten(0, 1)
