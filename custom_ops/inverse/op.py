"""Inverse of small matrices in closed form."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("uniad::inverse", mutates_args=())
def inverse(matrix: Tensor) -> Tensor:
    """Inverse of matrix [..., 3, 3] by its adjugate."""
    rows = [matrix[..., i, :] for i in range(3)]
    adjugate = torch.stack([torch.linalg.cross(rows[(i + 1) % 3], rows[(i + 2) % 3]) for i in range(3)], -1)
    determinant = (rows[0] * adjugate[..., 0]).sum(-1)
    return adjugate / determinant[..., None, None]


@inverse.register_fake
def _(matrix: Tensor) -> Tensor:
    return torch.empty_like(matrix)
