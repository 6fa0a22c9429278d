"""Deformable attention written in different ways, as modules to export."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

TWO_LEVELS = ((6, 8), (3, 4))
FIVE_LEVELS = ((6, 8), (3, 4), (5, 2), (1, 3), (1, 1))


class Plain(nn.Module):
    """As in the first publications: the levels stacked, the weights multiplied and summed.

    queries [B, Q, 16], keys [B, S, 16], reference [B, Q, L, 2] -> [B, Q, 16].
    """

    def __init__(self, levels: Sequence[tuple[int, int]] = TWO_LEVELS, heads: int = 2, points: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.levels, self.heads, self.points = tuple(levels), heads, points
        self.offsets = nn.Linear(16, heads * len(levels) * points * 2)
        self.logits = nn.Linear(16, heads * len(levels) * points)
        self.values = nn.Linear(16, 16)

    def forward(self, queries: Tensor, keys: Tensor, reference: Tensor) -> Tensor:
        samples = self.sampled(self.value(keys), self.locations(queries, reference))
        return self.summed(samples, self.weights(queries))

    def value(self, keys: Tensor) -> Tensor:
        """[B, S, H, C]."""
        value: Tensor = self.values(keys)
        return value.view(*keys.shape[:2], self.heads, -1)

    def locations(self, queries: Tensor, reference: Tensor) -> Tensor:
        """[B, Q, H, L, P, 2] in [0, 1]."""
        return reference[:, :, None, :, None] + self.cells(queries) / self.widths_heights()[None, None, None, :, None]

    def cells(self, queries: Tensor) -> Tensor:
        """Offsets [B, Q, H, L, P, 2] in cells."""
        cells: Tensor = self.offsets(queries)
        return cells.view(*queries.shape[:2], self.heads, len(self.levels), self.points, 2)

    def widths_heights(self) -> Tensor:
        """[L, 2]."""
        sizes = torch.tensor(self.levels)
        return torch.stack([sizes[..., 1], sizes[..., 0]], -1)

    def weights(self, queries: Tensor) -> Tensor:
        """[B, Q, H, L*P]."""
        logits: Tensor = self.logits(queries)
        return logits.view(*queries.shape[:2], self.heads, -1).softmax(-1)

    def sampled(self, value: Tensor, locations: Tensor) -> list[Tensor]:
        """[B*H, C, Q, P] for each level."""
        batch, _, heads, channels = value.shape
        grids, samples = 2 * locations - 1, []
        parts = value.split([height * width for height, width in self.levels], 1)
        for level, (part, (height, width)) in enumerate(zip(parts, self.levels, strict=True)):
            plane = part.flatten(2).transpose(1, 2).reshape(batch * heads, channels, height, width)
            samples.append(self.sample(plane, grids[:, :, :, level].transpose(1, 2).flatten(0, 1)))
        return samples

    def sample(self, plane: Tensor, grid: Tensor) -> Tensor:
        return grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    def summed(self, samples: list[Tensor], weights: Tensor) -> Tensor:
        """[B, Q, H*C]."""
        batch, queries, heads, _ = weights.shape
        weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
        summed = (torch.stack(samples, -2).flatten(-2) * weights).sum(-1)
        return summed.view(batch, -1, queries).transpose(1, 2).contiguous()

    def example(self, batch: int = 2, queries: int = 5) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs; some locations lie outside the maps."""
        keys = sum(height * width for height, width in self.levels)
        random = torch.Generator().manual_seed(1)
        return (
            torch.randn(batch, queries, 16, generator=random),
            torch.randn(batch, keys, 16, generator=random),
            torch.rand(batch, queries, len(self.levels), 2, generator=random),
        )


class Einsum(Plain):
    """Weights applied by an Einsum over heads of their own axis."""

    def summed(self, samples: list[Tensor], weights: Tensor) -> Tensor:
        batch, queries, heads, _ = weights.shape
        by_head = torch.cat(samples, -1).view(batch, heads, -1, queries, weights.shape[-1])
        return torch.einsum("bhcqk,bqhk->bqhc", by_head, weights).flatten(2)


class MatMul(Plain):
    """Weights applied by a matrix product from the left."""

    def summed(self, samples: list[Tensor], weights: Tensor) -> Tensor:
        batch, queries, heads, _ = weights.shape
        rows = weights.transpose(1, 2).reshape(batch * heads, queries, 1, -1)
        product = rows @ torch.cat(samples, -1).permute(0, 2, 3, 1)
        return product.view(batch, heads, queries, -1).transpose(1, 2).flatten(2)


class TwoSums(Plain):
    """Summed over points, then over levels."""

    def summed(self, samples: list[Tensor], weights: Tensor) -> Tensor:
        batch, queries, heads, _ = weights.shape
        by_level = weights.view(batch, queries, heads, len(samples), -1).permute(0, 2, 3, 1, 4).flatten(0, 1)
        summed = (torch.stack(samples, 1) * by_level.unsqueeze(2)).sum(-1).sum(1)
        return summed.view(batch, -1, queries).transpose(1, 2)


class ChannelsFirst(Plain):
    """A result [B*H, C, Q] that is used as it is."""

    def summed(self, samples: list[Tensor], weights: Tensor) -> Tensor:
        batch, queries, heads, _ = weights.shape
        weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
        return (torch.cat(samples, -1) * weights).sum(-1).relu()


class HeadsFirstSoftmax(Plain):
    """Heads brought next to the batch before the softmax."""

    def weights(self, queries: Tensor) -> Tensor:
        logits: Tensor = self.logits(queries)
        logits = logits.view(*queries.shape[:2], self.heads, -1).transpose(1, 2)
        return logits.reshape(-1, *logits.shape[2:]).softmax(-1)

    def summed(self, samples: list[Tensor], weights: Tensor) -> Tensor:
        summed = (torch.cat(samples, -1) * weights.unsqueeze(1)).sum(-1)
        return summed.view(-1, self.heads * summed.shape[1], summed.shape[2]).transpose(1, 2)


class SequenceFirst(Plain):
    """Queries and keys come as [Q, B, 16] and [S, B, 16]."""

    def forward(self, queries: Tensor, keys: Tensor, reference: Tensor) -> Tensor:
        return super().forward((1.5 * queries).transpose(0, 1), (2 * keys).transpose(0, 1), reference)

    def example(self, batch: int = 2, queries: int = 5) -> tuple[Tensor, Tensor, Tensor]:
        queries_, keys, reference = super().example(batch, queries)
        return queries_.transpose(0, 1).contiguous(), keys.transpose(0, 1).contiguous(), reference


class ValueTransposedOnce(Plain):
    """All keys brought to the last axis before they are split, as in RT-DETRv2."""

    def sampled(self, value: Tensor, locations: Tensor) -> list[Tensor]:
        batch, _, heads, *_ = locations.shape
        grids = (2 * locations - 1).flatten(3, -2).permute(0, 2, 1, 3, 4).flatten(0, 1).split(self.level_points, dim=2)
        parts = value.permute(0, 2, 3, 1).flatten(0, 1).split([height * width for height, width in self.levels], -1)
        return [
            self.sample(part.reshape(batch * heads, -1, height, width), grid)
            for part, grid, (height, width) in zip(parts, grids, self.levels, strict=True)
        ]

    @property
    def level_points(self) -> list[int]:
        return [self.points] * len(self.levels)

    def summed(self, samples: list[Tensor], weights: Tensor) -> Tensor:
        batch, queries, heads, _ = weights.shape
        weights = weights.permute(0, 2, 1, 3).reshape(batch * heads, 1, queries, -1)
        return (torch.concat(samples, -1) * weights).sum(-1).view(batch, -1, queries).transpose(1, 2)


class UnevenPoints(ValueTransposedOnce):
    """Levels with a number of points each, which move by half boxes over that number, as in the decoder of D-FINE."""

    shares: Tensor

    def __init__(self, level_points: Sequence[int] = (3, 6, 3)) -> None:
        super().__init__(FIVE_LEVELS[: len(level_points)])
        self.counts = list(level_points)
        self.offsets = nn.Linear(16, self.heads * sum(level_points) * 2)
        self.logits = nn.Linear(16, self.heads * sum(level_points))
        self.register_buffer("shares", torch.tensor([1 / count for count in level_points for _ in range(count)]))

    @property
    def level_points(self) -> list[int]:
        return self.counts

    def locations(self, queries: Tensor, reference: Tensor) -> Tensor:
        """[B, Q, H, K, 2] in [0, 1], with K for the points of all levels."""
        offsets: Tensor = self.offsets(queries).reshape(*queries.shape[:2], self.heads, -1, 2)
        moves = offsets * self.shares.unsqueeze(-1) * reference[:, :, None, :, 2:] * 0.5
        return reference[:, :, None, :, :2] + moves

    def example(self, batch: int = 2, queries: int = 5) -> tuple[Tensor, Tensor, Tensor]:
        queries_, keys, reference = super().example(batch, queries)
        centre = reference[:, :, :1]
        return queries_, keys, torch.cat([centre, 0.5 * centre.flip(1)], -1)


class UnevenStoredLocations(UnevenPoints):
    """The same of queries that are always alike, and only weighted differently."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(2)
        self.places = nn.Parameter(torch.rand(2, 5, self.heads, sum(self.counts), 2, generator=random))

    def locations(self, queries: Tensor, reference: Tensor) -> Tensor:
        return self.places


class UnevenPointsLevelByLevel(UnevenPoints):
    """The same in cells around a point of each level, each level apart, and weighted by a matrix product."""

    def forward(self, queries: Tensor, keys: Tensor, reference: Tensor) -> Tensor:
        cells = self.offsets(queries).reshape(*queries.shape[:2], self.heads, -1, 2).split(self.counts, 3)
        parts = self.value(keys).split([height * width for height, width in self.levels], 1)
        samples = []
        for level, (height, width) in enumerate(self.levels):
            location = reference[:, :, None, level, None] + cells[level] / torch.tensor([width, height])
            plane = parts[level].permute(0, 2, 3, 1).reshape(-1, parts[level].shape[-1], height, width)
            samples.append(self.sample(plane, (location * 2 - 1).transpose(1, 2).flatten(0, 1)))
        return self.summed(samples, self.weights(queries))

    def summed(self, samples: list[Tensor], weights: Tensor) -> Tensor:
        batch, queries, heads, _ = weights.shape
        rows = weights.transpose(1, 2).reshape(batch * heads, queries, 1, -1)
        product = rows @ torch.cat([part.permute(0, 2, 3, 1) for part in samples], 2)
        return product.view(batch, heads, queries, -1).transpose(1, 2).flatten(2)

    def example(self, batch: int = 2, queries: int = 5) -> tuple[Tensor, Tensor, Tensor]:
        return Plain.example(self, batch, queries)


class LevelByLevel(Plain):
    """Locations computed for each level apart."""

    def forward(self, queries: Tensor, keys: Tensor, reference: Tensor) -> Tensor:
        value, cells, samples, start = self.value(keys), self.cells(queries), [], 0
        for level, (height, width) in enumerate(self.levels):
            part = value[:, start : start + height * width]
            location = reference[:, :, None, level, None] + cells[:, :, :, level] / torch.tensor([width, height])
            plane = part.permute(0, 2, 3, 1).reshape(-1, part.shape[-1], height, width)
            samples.append(self.sample(plane, (location * 2 - 1).transpose(1, 2).flatten(0, 1)))
            start += height * width
        return self.summed(samples, self.weights(queries))


class ConvolvedLevels(Plain):
    """Maps that are no part of one tensor: each level has a convolution of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(16, 16, 1) for _ in self.levels)

    def sampled(self, value: Tensor, locations: Tensor) -> list[Tensor]:
        batch, _, heads, channels = value.shape
        parts = value.flatten(2).split([height * width for height, width in self.levels], 1)
        samples = []
        for level, (part, (height, width)) in enumerate(zip(parts, self.levels, strict=True)):
            plane = self.convolutions[level](part.transpose(1, 2).reshape(batch, -1, height, width))
            grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
            samples.append(self.sample(plane.reshape(batch * heads, channels, height, width), grid))
        return samples


class SharedReference(Plain):
    """One reference point for all levels, in the middle of the map and the same for each batch."""

    def locations(self, queries: Tensor, reference: Tensor) -> Tensor:
        return super().locations(queries, reference[:1, :, :1])


class Anchors(Plain):
    """Four reference points of a query, which its points use in turn, as BEVFormer's camera attention."""

    def __init__(self) -> None:
        super().__init__(points=8)

    def locations(self, queries: Tensor, reference: Tensor) -> Tensor:
        cells = self.cells(queries)
        shifts = cells / self.widths_heights()[None, None, None, :, None]
        in_turn = shifts.view(*cells.shape[:4], self.points // 4, 4, 2)
        return (reference[:, :, None, None, None] + in_turn).view(cells.shape)

    def example(self, batch: int = 2, queries: int = 5) -> tuple[Tensor, Tensor, Tensor]:
        queries_, keys, _ = super().example(batch, queries)
        return queries_, keys, torch.rand(batch, queries, 4, 2, generator=torch.Generator().manual_seed(2))


class StoredLocations(Plain):
    """Of queries that are always alike, as those of a first decoder layer; only their weights depend on the data."""

    def __init__(self, levels: Sequence[tuple[int, int]] = TWO_LEVELS, heads: int = 2, points: int = 4) -> None:
        super().__init__(levels, heads, points)
        random = torch.Generator().manual_seed(2)
        self.places = nn.Parameter(torch.rand(2, 5, heads, len(levels), points, 2, generator=random))

    def locations(self, queries: Tensor, reference: Tensor) -> Tensor:
        return self.places


class Boxes(Plain):
    """Reference boxes (x, y, width, height): offsets count in half boxes over the number of points."""

    def locations(self, queries: Tensor, reference: Tensor) -> Tensor:
        boxes = reference[:, :, None, :, None]
        return boxes[..., :2] + self.cells(queries) / self.points * boxes[..., 2:] * 0.5

    def example(self, batch: int = 2, queries: int = 5) -> tuple[Tensor, Tensor, Tensor]:
        queries_, keys, reference = super().example(batch, queries)
        return queries_, keys, torch.cat([reference, 0.5 * reference.flip(1)], -1)


class FreeLocations(Plain):
    """Locations that are no reference plus an offset."""

    def locations(self, queries: Tensor, reference: Tensor) -> Tensor:
        return self.cells(queries).sigmoid()
