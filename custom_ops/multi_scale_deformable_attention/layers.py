"""Layers with deformable attention over one feature map, as several transformers use them."""

from __future__ import annotations

from torch import Tensor, nn

from custom_ops.multi_scale_deformable_attention.op import multi_scale_deformable_attention
from toolkit.nn.attention import ResidualAttention, add
from toolkit.nn.dropout import Dropout
from toolkit.nn.feedforward import FeedForward


class DeformableAttention(nn.Module):
    """Single-level deformable attention plus the query (Zhu et al. 2021, equation 2).

    Offsets and attention logits come from the positional query, values from the map without position.
    """

    def __init__(self, dims: int, heads: int, points: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.points = points
        self.sampling_offsets = nn.Linear(dims, heads * points * 2)
        self.attention_weights = nn.Linear(dims, heads * points)
        self.value_proj = nn.Linear(dims, dims)
        self.output_proj = nn.Linear(dims, dims)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        reference: Tensor,
        spatial_shape: tuple[int, int],
        *,
        query_position: Tensor | None = None,
    ) -> Tensor:
        """query [Q, C], value [H*W, C], reference [Q, 2 or 4] in [0, 1] -> [Q, C].

        Around a point (x, y), offsets count in cells. In a box (centre x, centre y, width, height), an offset as
        large as the number of points reaches the edge (Zhu et al. 2021, "Iterative Bounding Box Refinement").
        """
        positioned = add(query, query_position)
        offsets = self.sampling_offsets(positioned).unflatten(-1, (self.heads, self.points, 2))
        if reference.shape[-1] == 4:
            height, width = spatial_shape
            reference, size = reference.chunk(2, -1)
            cells = size * size.new_tensor([width, height])
            offsets = offsets * (cells * (0.5 / self.points))[:, None, None]
        sampled = multi_scale_deformable_attention(
            self.value_proj(value).unflatten(-1, (self.heads, -1)).unsqueeze(0),
            reference[None, :, None],
            offsets.flatten(-2).unsqueeze(0),
            self.attention_weights(positioned).unflatten(-1, (self.heads, -1)).unsqueeze(0),
            list(spatial_shape),
        )
        out: Tensor = query + self.dropout(self.output_proj(sampled.squeeze(0).flatten(-2)))
        return out


class DeformableDecoderLayer(nn.Module):
    """Self-attention, norm, deformable cross-attention, norm, FFN, norm (keys ``attentions``, ``ffns``, ``norms``)."""

    def __init__(self, dims: int, heads: int, hidden: int, points: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(
            [ResidualAttention(dims, heads, dropout), DeformableAttention(dims, heads, points, dropout)]
        )
        self.ffns = nn.ModuleList([FeedForward(dims, hidden, dropout)])
        self.norms = nn.ModuleList([nn.LayerNorm(dims) for _ in range(3)])

    def forward(
        self,
        query: Tensor,
        query_position: Tensor,
        value: Tensor,
        reference: Tensor,
        spatial_shape: tuple[int, int],
        valid: Tensor | None = None,
    ) -> Tensor:
        """query and query_position [Q, C], value [H*W, C], reference [Q, 2 or 4], valid: bool over the Q keys."""
        query = self.norms[0](self.attentions[0](query, query_position=query_position, valid=valid))
        attended = self.attentions[1](query, value, reference, spatial_shape, query_position=query_position)
        query = self.norms[1](attended)
        out: Tensor = self.norms[2](self.ffns[0](query))
        return out
