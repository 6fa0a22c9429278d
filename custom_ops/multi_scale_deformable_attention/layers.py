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

    def __init__(self, dims: int, heads: int, points: int, dropout: float = 0.0, levels: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.points = points
        self.levels = levels
        self.sampling_offsets = nn.Linear(dims, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dims, heads * levels * points)
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
        sampled = self.attend(add(query, query_position), value, reference, spatial_shape)
        out: Tensor = query + self.dropout(self.output_proj(sampled.flatten(-2)))
        return out

    def attend(self, query: Tensor, value: Tensor, reference: Tensor, spatial_shape: tuple[int, int]) -> Tensor:
        """What each head finds around the queries, which have their position: [Q, heads, C/heads]."""
        reference, offsets = self.locate(query, reference, spatial_shape)
        sampled = multi_scale_deformable_attention(
            self.value_proj(value).unflatten(-1, (self.heads, -1)).unsqueeze(0),
            reference[None, :, None],
            offsets.flatten(-2).unsqueeze(0),
            self.attention_weights(query).unflatten(-1, (self.heads, -1)).unsqueeze(0),
            list(spatial_shape),
        )
        return sampled.squeeze(0)

    def locate(self, query: Tensor, reference: Tensor, spatial_shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Reference points [Q, 2], and in cells from them the points of each head, level by level,
        [Q, heads * levels, points, 2].
        """
        offsets = self.sampling_offsets(query).unflatten(-1, (self.heads * self.levels, self.points, 2))
        if reference.shape[-1] == 4:
            height, width = spatial_shape
            reference, size = reference.chunk(2, -1)
            cells = size * size.new_tensor([width, height])
            offsets = offsets * (cells * (0.5 / self.points))[:, None, None]
        return reference, offsets


class FlatlyReadAttention(DeformableAttention):
    """Deformable attention that has offsets and weights for several levels and is fed one, as UniAD-base's map has it.

    The reference's kernel goes by the one level that it is fed, and so reads the memory in which these lie as if they
    were the only level's: a query is served by what was computed for another one. With L levels, query q takes for head
    h what entry q * heads + h of all (query, head, level) says, which is of query q // L. Its weights are a part of
    those of all levels, which together sum to 1. The weights were trained so.
    """

    def attend(self, query: Tensor, value: Tensor, reference: Tensor, spatial_shape: tuple[int, int]) -> Tensor:
        queries = len(query)
        read = -(-queries // self.levels)
        query = query[:read]
        points, offsets = self.locate(query, reference[:read], spatial_shape)
        logits = self.attention_weights(query).unflatten(-1, (self.heads, self.levels, self.points))
        shares = logits.flatten(-2).softmax(-1).view(logits.shape).sum(-1)
        sampled = multi_scale_deformable_attention(
            self.value_proj(value).unflatten(-1, (self.heads, -1)).unsqueeze(0),
            points.repeat_interleave(self.levels, 0)[None, :queries, None],
            offsets.view(-1, self.heads, 2 * self.points)[:queries].unsqueeze(0),
            logits.view(-1, self.heads, self.points)[:queries].unsqueeze(0),
            list(spatial_shape),
        )
        return sampled.squeeze(0) * shares.view(-1, self.heads, 1)[:queries]


def deformable_attention(dims: int, heads: int, points: int, dropout: float, levels: int) -> DeformableAttention:
    """The attention that was built for so many levels, over one feature map."""
    kind = DeformableAttention if levels == 1 else FlatlyReadAttention
    return kind(dims, heads, points, dropout, levels)


class DeformableDecoderLayer(nn.Module):
    """Self-attention, norm, deformable cross-attention, norm, FFN, norm (keys ``attentions``, ``ffns``, ``norms``)."""

    def __init__(
        self, dims: int, heads: int, hidden: int, points: int = 4, dropout: float = 0.0, levels: int = 1
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([
            ResidualAttention(dims, heads, dropout),
            deformable_attention(dims, heads, points, dropout, levels),
        ])  # fmt: skip
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
