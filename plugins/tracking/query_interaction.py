"""From this frame's embeddings to the next frame's queries (MOTR's query interaction module)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from toolkit.config.model import ModelConfig
from toolkit.nn.attention import MultiheadAttention


class QueryInteraction(nn.Module):
    """Surviving tracks attend to each other and update both halves of their queries."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dims = config.embed
        self.self_attn = MultiheadAttention(dims, config.heads)
        self.linear1 = nn.Linear(dims, dims)
        self.linear2 = nn.Linear(dims, dims)
        self.linear_pos1 = nn.Linear(dims, dims)
        self.linear_pos2 = nn.Linear(dims, dims)
        self.norm_pos = nn.LayerNorm(dims)
        self.linear_feat1 = nn.Linear(dims, dims)
        self.linear_feat2 = nn.Linear(dims, dims)
        self.norm_feat = nn.LayerNorm(dims)
        self.norm1 = nn.LayerNorm(dims)
        self.norm2 = nn.LayerNorm(dims)

    def forward(self, query: Tensor, embedding: Tensor, valid: Tensor | None = None) -> Tensor:
        """Query that entered the frame [N, 2C], embedding [N, C], valid: bool [N] -> query [N, 2C]."""
        position, content = query.chunk(2, -1)
        positioned = position + embedding
        x = self.norm1(embedding + self.self_attn(positioned, positioned, embedding, valid))
        x = self.norm2(x + self.linear2(self.linear1(x).relu()))
        position = self.norm_pos(position + self.linear_pos2(self.linear_pos1(x).relu()))
        content = self.norm_feat(content + self.linear_feat2(self.linear_feat1(x).relu()))
        return torch.cat((position, content), -1)
