"""Each track's short-term memory of its past embeddings (UniAD, section 3.1; MeMOT)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from plugins.tracking.selection import where_valid
from plugins.tracking.state import Tracks
from toolkit.config.model import ModelConfig
from toolkit.nn.attention import MultiheadAttention


class MemoryBank(nn.Module):
    """A track attends to its own past embeddings, then saves the result every few frames."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dims = config.embed
        self.save_period = config.tracking.save_period
        self.save_score = config.tracking.save_score
        self.save_proj = nn.Linear(dims, dims)
        self.temporal_attn = MultiheadAttention(dims, config.heads)
        self.temporal_fc1 = nn.Linear(dims, dims)
        self.temporal_fc2 = nn.Linear(dims, dims)
        self.temporal_norm1 = nn.LayerNorm(dims)
        self.temporal_norm2 = nn.LayerNorm(dims)

    def forward(self, tracks: Tracks, embedding: Tensor, scores: Tensor) -> tuple[Tensor, Tracks]:
        """The embedding [N, C] updated by the memory, and the tracks with it saved where scores [N] allow."""
        embedding = self.recall(embedding, tracks.memory, tracks.memory_padding)
        return embedding, self.save(tracks, embedding, scores)

    def recall(self, embedding: Tensor, memory: Tensor, padding: Tensor) -> Tensor:
        """Attention from embedding [N, C] over memory [N, M, C], in the rows whose newest slot is filled."""
        filled = padding == 0
        attended = self.temporal_attn(embedding[:, None], memory, memory, filled[:, None, None]).squeeze(1)
        updated = self.temporal_norm1(embedding + attended)
        updated = self.temporal_norm2(updated + self.temporal_fc2(self.temporal_fc1(updated).relu()))
        return torch.where(filled[:, -1:], updated, embedding)

    def save(self, tracks: Tracks, embedding: Tensor, scores: Tensor) -> Tracks:
        """Push the projected embedding [N, C] into the rows whose period is over; the oldest slot drops out."""
        period = tracks.save_period
        due = (period == 0) & (scores > self.save_score)
        return self.push(tracks, embedding, due)._replace(
            save_period=where_valid(~due, (period - 1).clamp(min=0), self.save_period)
        )

    def push(self, tracks: Tracks, embedding: Tensor, due: Tensor) -> Tracks:
        """Push the projected embedding [N, C] into the rows of which it is due (bool [N])."""
        memory, padding = self.shifted(tracks.memory, tracks.memory_padding, embedding)
        return tracks._replace(
            memory=torch.where(due[:, None, None], memory, tracks.memory),
            memory_padding=torch.where(due[:, None], padding, tracks.memory_padding),
        )

    def shifted(self, memory: Tensor, padding: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Memory [N, M, C] and its padding [N, M] without the oldest slot, and with the projected embedding [N, C]."""
        newest = self.save_proj(embedding)[:, None]
        filled = torch.zeros_like(padding[:, :1])
        return torch.cat((memory[:, 1:], newest), 1), torch.cat((padding[:, 1:], filled), 1)
