"""Deformable attention over one BEV feature map, as the track and map transformers use it."""

from __future__ import annotations

from torch import Tensor, nn

from custom_ops.multi_scale_deformable_attention.op import multi_scale_deformable_attention
from toolkit.nn.attention import add


class DeformableAttention(nn.Module):
    """Single-level deformable attention plus the query (Zhu et al. 2021, equation 2).

    Offsets and attention logits come from the positional query, values from the map without position.
    """

    def __init__(self, dims: int, heads: int, points: int) -> None:
        super().__init__()
        self.heads = heads
        self.sampling_offsets = nn.Linear(dims, heads * points * 2)
        self.attention_weights = nn.Linear(dims, heads * points)
        self.value_proj = nn.Linear(dims, dims)
        self.output_proj = nn.Linear(dims, dims)

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        reference: Tensor,
        spatial_shape: tuple[int, int],
        *,
        query_position: Tensor | None = None,
    ) -> Tensor:
        """query [Q, C], value [H*W, C], reference [Q, 2] (x, y) in [0, 1] -> [Q, C]."""
        positioned = add(query, query_position)
        sampled = multi_scale_deformable_attention(
            self.value_proj(value).unflatten(-1, (self.heads, -1)).unsqueeze(0),
            reference[None, :, None],
            self.sampling_offsets(positioned).unflatten(-1, (self.heads, -1)).unsqueeze(0),
            self.attention_weights(positioned).unflatten(-1, (self.heads, -1)).unsqueeze(0),
            list(spatial_shape),
        )
        out: Tensor = self.output_proj(sampled.squeeze(0).flatten(-2))
        return query + out
