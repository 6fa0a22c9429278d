"""Attention to cameras as BEVFormer trains it: each camera computes the cells it sees, padded to the most of any."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.graph.deformable_attentions import Anchors

CAMERAS, CELLS, ANCHORS, CHANNELS = 3, 12, 4, 16
NAMES = ("queries", "features", "reference", "seen")


class PaddedCameras(nn.Module):
    """Queries [B, N, C], features [K, S, B, C] and reference [K, B, N, A, 2] of K cameras, seen bool -> [B, N, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Anchors()
        self.project = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, queries: Tensor, features: Tensor, reference: Tensor, seen: Tensor) -> Tensor:
        batch = len(queries)
        positions = [camera[0].sum(-1).nonzero().squeeze(-1) for camera in seen]
        longest = max([len(each) for each in positions])
        padded_queries = queries.new_zeros([batch, CAMERAS, longest, CHANNELS])
        padded_reference = reference.new_zeros([batch, CAMERAS, longest, ANCHORS, 2])
        for b in range(batch):
            for k, chosen in enumerate(positions):
                padded_queries[b, k, : len(chosen)] = queries[b, chosen]
                padded_reference[b, k, : len(chosen)] = reference[k][b, chosen]
        keys = features.permute(2, 0, 1, 3).reshape(batch * CAMERAS, -1, CHANNELS)
        attended = self.attention(
            padded_queries.view(batch * CAMERAS, longest, CHANNELS),
            keys,
            padded_reference.view(batch * CAMERAS, longest, ANCHORS, 2),
        )
        attended = self.changed(attended.view(batch, CAMERAS, longest, CHANNELS))
        sums = torch.zeros_like(queries)
        for b in range(batch):
            for k, chosen in enumerate(positions):
                sums[b, self.target(k, positions)] += attended[b, k, : len(chosen)]
        cameras = (seen.sum(-1) > 0).permute(1, 2, 0).sum(-1).clamp(min=1.0)
        projected: Tensor = self.project(sums / cameras[..., None])
        return projected + queries

    def changed(self, attended: Tensor) -> Tensor:
        """What becomes of the results [B, K, longest, C] before they are added."""
        return attended

    def target(self, camera: int, positions: list[Tensor]) -> Tensor:
        """The cells to which a camera's results are added."""
        return positions[camera]


class MaskedCameras(PaddedCameras):
    """The same, as documented for export: all cells for every camera, and a mask."""

    def forward(self, queries: Tensor, features: Tensor, reference: Tensor, seen: Tensor) -> Tensor:
        batch, cells, channels = queries.shape
        keys = features.permute(2, 0, 1, 3).flatten(0, 1)
        repeated = queries[:, None].expand(-1, CAMERAS, -1, -1).reshape(-1, cells, channels)
        attended = self.attention(repeated, keys, reference.transpose(0, 1).flatten(0, 1))
        visible = (seen[:, :1].sum(-1) > 0).permute(1, 0, 2)[..., None]
        sums = torch.where(visible, attended.view(batch, CAMERAS, cells, channels), 0.0).sum(1)
        cameras = (seen.sum(-1) > 0).permute(1, 2, 0).sum(-1).clamp(min=1.0)
        projected: Tensor = self.project(sums / cameras[..., None])
        return projected + queries


class TwoLayers(nn.Module):
    """Two such attentions in a row, which see the same."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([PaddedCameras(), PaddedCameras()])

    def forward(self, queries: Tensor, features: Tensor, reference: Tensor, seen: Tensor) -> Tensor:
        for layer in self.layers:
            queries = layer(queries, features, reference, seen)
        return queries


def example(batch: int = 1, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, with cells that no camera sees and such as two see; all of a batch see the same."""
    random = torch.Generator().manual_seed(seed)
    keys = sum(height * width for height, width in Anchors().levels)
    seen = torch.rand(CAMERAS, 1, CELLS, ANCHORS, generator=random) > 0.8
    return (
        torch.randn(batch, CELLS, CHANNELS, generator=random),
        torch.randn(CAMERAS, keys, batch, CHANNELS, generator=random),
        torch.rand(CAMERAS, batch, CELLS, ANCHORS, 2, generator=random),
        seen.expand(-1, batch, -1, -1).contiguous(),
    )
