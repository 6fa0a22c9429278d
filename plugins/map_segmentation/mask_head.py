"""Mask heads of Panoptic SegFormer: queries look at the BEV, and their last attention map becomes a mask.

Li et al., "Panoptic SegFormer" (2022), "Mask Decoder".
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import NamedTuple

from torch import Tensor, nn

from toolkit.nn.attention import add, merge_heads, split_heads

NORM_EPS = 1e-6


class MaskCrossAttention(nn.Module):
    """Multi-head attention of mask queries to the memory."""

    def __init__(self, dims: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dims, dims)
        self.k = nn.Linear(dims, dims)
        self.v = nn.Linear(dims, dims)
        self.proj = nn.Linear(dims, dims)
        # Only training makes masks of the blocks.
        self.linear_l1 = nn.Sequential(nn.Linear(heads, heads), nn.ReLU())
        self.linear = nn.Sequential(nn.Linear(heads, 1), nn.ReLU())

    def forward(self, query: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [Q, C] and memory [K, C] -> queries [Q, C], attention logits [heads, Q, K]."""
        q, k, v = self.q(query), self.k(memory), self.v(memory)
        logits = attention_logits(q, k, self.heads)
        return self.proj(attended(logits, v, self.heads)), logits

    def scores(self, logits: Tensor) -> Tensor:
        """Attention logits [heads, Q, K] -> scores of the block's masks [Q, K], as those of `MaskScores`."""
        return mixed_heads(logits, self.linear_l1, self.linear)


class MaskSelfAttention(nn.Module):
    """Multi-head attention among mask queries, with one Linear for query, key and value."""

    def __init__(self, dims: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dims, 3 * dims)
        self.proj = nn.Linear(dims, dims)

    def forward(self, query: Tensor) -> Tensor:
        """[Q, C] -> [Q, C]."""
        q, k, v = self.qkv(query).chunk(3, -1)
        out: Tensor = self.proj(attended(attention_logits(q, k, self.heads), v, self.heads))
        return out


class BlockOutput(NamedTuple):
    """What a mask block gives."""

    query: Tensor
    """[Q, C]"""
    logits: Tensor
    """[heads, Q, K], of its attention to the memory"""


class MaskBlock(nn.Module):
    """Cross-attention to the memory, norm, GELU feed-forward, norm."""

    def __init__(self, dims: int, heads: int) -> None:
        super().__init__()
        self.head_norm1 = nn.LayerNorm(dims, NORM_EPS)
        self.attn = MaskCrossAttention(dims, heads)
        self.head_norm2 = nn.LayerNorm(dims, NORM_EPS)
        self.mlp = nn.Sequential(
            OrderedDict(fc1=nn.Linear(dims, 4 * dims), act=nn.GELU(), fc2=nn.Linear(4 * dims, dims))
        )

    def forward(self, query: Tensor, memory: Tensor) -> BlockOutput:
        """Queries [Q, C] and memory [K, C]."""
        out, logits = self.attn(query, memory)
        query = self.head_norm1(query + out)
        return BlockOutput(self.head_norm2(query + self.mlp(query)), logits)


class StuffMaskBlock(MaskBlock):
    """A `MaskBlock` in which the queries first attend to each other."""

    def __init__(self, dims: int, heads: int) -> None:
        super().__init__(dims, heads)
        self.self_attention = MaskSelfAttention(dims, heads)
        self.norm3 = nn.LayerNorm(dims, NORM_EPS)

    def forward(self, query: Tensor, memory: Tensor) -> BlockOutput:
        return super().forward(self.norm3(query + self.self_attention(query)), memory)


class MaskScores(nn.Module):
    """Attention logits before the softmax, mixed over the heads into one score per cell (Linear, ReLU, twice)."""

    def __init__(self, dims: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dims, dims)
        self.k = nn.Linear(dims, dims)
        self.linear_l1 = nn.Sequential(nn.Linear(heads, heads), nn.ReLU())
        self.linear = nn.Sequential(nn.Linear(heads, 1), nn.ReLU())

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """Queries [Q, C] and memory [K, C] -> scores [Q, K], at least 0 and without upper bound."""
        logits = attention_logits(self.q(query), self.k(memory), self.heads)
        return mixed_heads(logits, self.linear_l1, self.linear)


class MaskHead(nn.Module):
    """Blocks of one kind, then the mask scores. A position is added before each of them and stays in the residual."""

    def __init__(self, block: type[MaskBlock], layers: int, dims: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([block(dims, heads) for _ in range(layers)])
        self.attnen = MaskScores(dims, heads)

    def forward(self, query: Tensor, memory: Tensor, position: Tensor | None = None) -> Tensor:
        """Queries and their position [Q, C], memory [K, C] -> scores [Q, K]."""
        return self.scores(self.run_blocks(query, memory, position)[-1].query, memory, position)

    def run_blocks(self, query: Tensor, memory: Tensor, position: Tensor | None = None) -> list[BlockOutput]:
        """What each block gives; arguments as for `forward`."""
        outputs = []
        for block in self.blocks:
            output: BlockOutput = block(add(query, position), memory)
            query = output.query
            outputs.append(output)
        return outputs

    def scores(self, query: Tensor, memory: Tensor, position: Tensor | None = None) -> Tensor:
        """Scores [Q, K] of the last block's queries [Q, C]."""
        scores: Tensor = self.attnen(add(query, position), memory)
        return scores


def attention_logits(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """Scaled products of projected queries [Q, C] and keys [K, C] -> [heads, Q, K]."""
    q, k = split_heads(query, heads), split_heads(key, heads)
    return (q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)


def attended(logits: Tensor, value: Tensor, heads: int) -> Tensor:
    """What attention with logits [heads, Q, K] makes of projected values [K, C]: [Q, C]."""
    return merge_heads(logits.softmax(-1) @ split_heads(value, heads))


def mixed_heads(logits: Tensor, *layers: nn.Module) -> Tensor:
    """The heads of logits [heads, Q, K] mixed into one score by layers from `heads` features to 1: [Q, K]."""
    features = logits.permute(1, 2, 0)
    for layer in layers:
        features = layer(features)
    return features.squeeze(-1)
