"""Fused multi-scale deformable attention (Zhu et al. 2021, equation 3).

Raw offsets and attention logits go in; the softmax over levels and points and the location arithmetic
are part of the op.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


@torch.library.custom_op("uniad::multi_scale_deformable_attention", mutates_args=())
def multi_scale_deformable_attention(
    value: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor, spatial_shapes: Sequence[int]
) -> Tensor:
    """Sample `value` bilinearly (zeros outside) around the reference points and take the weighted sum.

    With B batches, S keys of all levels, H heads, C channels per head, Q queries, L levels, P points and
    D reference points per query (point p uses reference p mod D):

    value [B, S, H, C]; reference [B, Q, 1, 2D] as (x, y) in [0, 1]; offsets [B, Q, H, L*P*2] in cells of
    their level; logits [B, Q, H, L*P]; spatial_shapes h0, w0, h1, w1 … -> [B, Q, H, C].
    """
    batch, _, heads, channels = value.shape
    queries, levels = reference.shape[1], len(spatial_shapes) // 2
    points, references = logits.shape[3] // levels, reference.shape[3] // 2
    offsets = offsets.view(batch, queries, heads, levels, points // references, references, 2)
    reference = reference.view(batch, queries, 1, 1, references, 2)
    weights = logits.softmax(-1).transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    sampled, start = [], 0
    for level in range(levels):
        height, width = spatial_shapes[2 * level : 2 * level + 2]
        plane = value[:, start : start + height * width].permute(0, 2, 3, 1).reshape(-1, channels, height, width)
        location = reference + offsets[:, :, :, level] / offsets.new_tensor([width, height])
        grid = (2 * location - 1).reshape(batch, queries, heads, points, 2).transpose(1, 2).flatten(0, 1)
        sampled.append(grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False))
        start += height * width
    summed = (torch.cat(sampled, -1) * weights).sum(-1)
    return summed.view(batch, heads, channels, queries).permute(0, 3, 1, 2).contiguous()


@multi_scale_deformable_attention.register_fake
def _(value: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor, spatial_shapes: Sequence[int]) -> Tensor:
    return value.new_empty(value.shape[0], reference.shape[1], value.shape[2], value.shape[3])
