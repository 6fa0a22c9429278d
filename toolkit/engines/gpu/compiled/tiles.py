"""Which block of the result a program of a kernel computes: chosen by the size, so that the GPU is filled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

MULTIPROCESSORS = 132
"""Of an H100, on which everything here was measured."""
SPLITS = (1, 2, 4, 8)
"""How many programs may share a sum."""


@dataclass(frozen=True)
class Tile:
    """Rows, columns and summed elements of a block; warps of a program, and loads in flight. `splits` share a sum."""

    rows: int
    columns: int
    summed: int
    warps: int
    stages: int
    splits: int = 1

    def programs(self, rows: int, columns: int) -> int:
        """How many blocks a result [rows, columns] has."""
        return ceil(rows / self.rows) * ceil(columns / self.columns)


@dataclass(frozen=True)
class Cost:
    """Microseconds of a tile's programs.

    Those of one multiprocessor take turns of `start` and, for 64 elements of a sum and each part of the weight, `step`;
    these elements keep all of them waiting for `latency`.
    """

    start: float
    step: float
    latency: float

    def of(self, programs: int, length: int, parts: int) -> float:
        """What so many programs take, each for a sum of `length` elements."""
        steps = length / 64
        return ceil(programs / MULTIPROCESSORS) * (self.start + self.step * parts * steps) + self.latency * steps


PRODUCT_TILES = (
    (Tile(16, 32, 64, 2, 3), Cost(0.2, 0.08, 0.15)),
    (Tile(64, 64, 32, 4, 3), Cost(1.0, 0.3, 0.2)),
)
"""For the products of UniAD-tiny, the faster of these two is on average within a few percent of the best of 8 tiles.
Costs are those with which the cheaper one is the faster one; in FP16 both are faster than they say."""
SHARING = 1.0
"""Microseconds until programs that share a sum have added it up."""
SHORTEST_SHARE = 128
"""Elements of a product's sum that are worth a program of their own."""
MOST_SHARING = 600
"""Programs that may share sums, in all."""


def product_tile(rows: int, columns: int, length: int, channels: int, parts: int) -> Tile:
    """The tile of a product [rows, length] x [length, columns], with the weight in `parts`.

    `channels`, a multiple of 32, are the elements of a sum that lie together.
    """
    costs: dict[Tile, float] = {}
    for tile, cost in PRODUCT_TILES:
        programs = tile.programs(rows, columns)
        whole = replace(tile, summed=tile.summed if channels % tile.summed == 0 else 32)
        costs[whole] = cost.of(programs, length, parts)
        for splits in SPLITS[1:]:
            if programs * splits <= MOST_SHARING and length // splits >= SHORTEST_SHARE:
                costs[replace(whole, splits=splits)] = cost.of(programs * splits, length // splits, parts) + SHARING
    return min(costs, key=lambda tile: costs[tile])


ATTENTION_PROGRAMS = 512
"""That keep a GPU busy with attention."""
SHORTEST_KEYS = 256
"""That are worth a program of their own."""


def attention_tile(batch_heads: int, queries: int, keys: int) -> Tile:
    """The tile of attention: rows are queries, summed elements keys, and a column is a head of a batch element."""
    if max(queries, keys) <= 16:
        return Tile(16, 1, 16, 1, 2)
    tile = Tile(64 if queries >= 512 else 32, 1, 64, 4, 2)
    # A block waits at every step for the one before, so a multiprocessor needs several.
    programs, splits = tile.programs(queries, batch_heads), 1
    while splits < SPLITS[-1] and programs * splits < ATTENTION_PROGRAMS and keys // (2 * splits) >= SHORTEST_KEYS:
        splits *= 2
    return replace(tile, splits=splits)


MOST_CHANNELS = 512
"""That a program samples at once."""


def sampling_tile(channels: int) -> Tile:
    """The tile of samples of an image: rows are positions, summed elements channels, as many as a power of two.

    Of nine on an H200, within 10 % of the fastest for both stages of UniAD-base that sample, in FP32 and FP16.
    """
    return Tile(4, 1, min(channels & -channels, MOST_CHANNELS), 2, 1)
