"""The two deformable attentions of BEVFormer: over time and over the cameras (Li et al. 2022, sections 3.3 and 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from custom_ops.multi_scale_deformable_attention.op import multi_scale_deformable_attention
from toolkit.nn.dropout import Dropout

QUEUE = 2
"""Length of the temporal queue: the previous BEV and the initial BEV query."""


@dataclass(frozen=True)
class CameraFeatures:
    """What the cameras show, with S feature cells each, and where the pillars of the Q BEV cells fall in them."""

    features: Tensor
    """[cameras, S, C]: the cells of all levels, one level after the other."""
    reference: Tensor
    """[cameras, Q, D, 2]: the pillar's points as (x, y) in [0, 1] of the image, outside of it when not seen, and far
    from it when none of them is."""
    visible: Tensor
    """Bool [cameras, Q]: the camera sees any point of the pillar."""


class TemporalSelfAttention(nn.Module):
    """Deformable attention of the BEV to the two maps of the temporal queue, averaged, plus the query."""

    def __init__(self, dims: int, heads: int, points: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.points = heads, points
        self.sampling_offsets = nn.Linear(QUEUE * dims, heads * QUEUE * points * 2)
        self.attention_weights = nn.Linear(QUEUE * dims, heads * QUEUE * points)
        self.value_proj = nn.Linear(dims, dims)
        self.output_proj = nn.Linear(dims, dims)
        self.dropout = Dropout(dropout)

    def forward(
        self, query: Tensor, position: Tensor, queue: Tensor, reference: Tensor, spatial_shape: tuple[int, int]
    ) -> Tensor:
        """Query and position [Q, C], queue [2, H*W, C] (previous BEV first), reference [Q, 2] in [0, 1] -> [Q, C]."""
        positioned = torch.cat((queue[0], query + position), -1)
        sampled = multi_scale_deformable_attention(
            self.value_proj(queue).unflatten(-1, (self.heads, -1)),
            reference[None, :, None].expand(QUEUE, -1, -1, -1),
            self.split_queue(self.sampling_offsets(positioned)),
            self.split_queue(self.attention_weights(positioned)),
            list(spatial_shape),
        )
        out: Tensor = query + self.dropout(self.output_proj(sampled.mean(0).flatten(-2)))
        return out

    def split_queue(self, x: Tensor) -> Tensor:
        """[Q, heads * 2 * N] -> [2, Q, heads, N]."""
        return x.view(x.shape[0], self.heads, QUEUE, -1).permute(2, 0, 1, 3)


class CameraAttention(nn.Module):
    """Deformable attention to each camera's features. Offsets and logits are the same for every camera."""

    def __init__(self, dims: int, heads: int, points: int, levels: int = 1) -> None:
        super().__init__()
        self.heads, self.points = heads, points
        self.sampling_offsets = nn.Linear(dims, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dims, heads * levels * points)
        self.value_proj = nn.Linear(dims, dims)

    def forward(self, query: Tensor, view: CameraFeatures, spatial_shapes: Sequence[int]) -> Tensor:
        """Query [Q, C] and the levels' sizes h0, w0, h1, w1 … -> [cameras, Q, C].

        Sampling point p of a level belongs to reference point p mod D.
        """
        cameras = view.features.shape[0]
        sampled: Tensor = multi_scale_deformable_attention(
            self.value_proj(view.features).unflatten(-1, (self.heads, -1)),
            view.reference.flatten(2).unsqueeze(2),
            self.sampling_offsets(query).unflatten(-1, (self.heads, -1)).expand(cameras, -1, -1, -1),
            self.attention_weights(query).unflatten(-1, (self.heads, -1)).expand(cameras, -1, -1, -1),
            list(spatial_shapes),
        )
        return sampled.flatten(-2)


class SpatialCrossAttention(nn.Module):
    """Attention of each BEV query to the cameras that see its pillar, averaged over these, plus the query."""

    def __init__(self, dims: int, heads: int, points: int, dropout: float = 0.0, levels: int = 1) -> None:
        super().__init__()
        self.deformable_attention = CameraAttention(dims, heads, points, levels)
        self.output_proj = nn.Linear(dims, dims)
        self.dropout = Dropout(dropout)

    def forward(self, query: Tensor, view: CameraFeatures, spatial_shapes: Sequence[int]) -> Tensor:
        """Query [Q, C], sizes as in `CameraAttention` -> [Q, C]. A pillar that no camera sees attends to nothing."""
        attended = self.deformable_attention(query, view, spatial_shapes)
        cameras = view.visible.float().sum(0).clamp(min=1)
        mean = torch.where(view.visible[..., None], attended, 0).sum(0) / cameras[:, None]
        out: Tensor = query + self.dropout(self.output_proj(mean))
        return out
