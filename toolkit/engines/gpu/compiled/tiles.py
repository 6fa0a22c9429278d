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

    Those of one multiprocessor take turns of `start` and, for 64 elements of a sum, `step`; these elements keep all of
    them waiting for `latency`.
    """

    start: float
    step: float
    latency: float

    def of(self, programs: int, length: int) -> float:
        """What so many programs take, each for a sum of `length` elements."""
        steps = length / 64
        return ceil(programs / MULTIPROCESSORS) * (self.start + self.step * steps) + self.latency * steps


ONE_PART = (
    (Tile(16, 32, 64, 2, 3), Cost(0.2, 0.08, 0.15)),
    (Tile(64, 64, 32, 4, 3), Cost(1.0, 0.3, 0.2)),
)
"""For the products of UniAD-tiny, the faster of these two is on average within a few percent of the best of 8 tiles.
Costs are those with which the cheaper one is the faster one; in FP16 both are faster than they say."""
PAIRS = (
    (Tile(16, 32, 64, 2, 3), Cost(0.29, 0.14, 0.36)),
    (Tile(64, 32, 64, 4, 3), Cost(1.0, 0.22, 0.4)),
    (Tile(64, 64, 32, 4, 3), Cost(0.99, 0.44, 0.72)),
    (Tile(64, 64, 64, 4, 3), Cost(2.5, 0.21, 0.43)),
    (Tile(64, 128, 32, 4, 3), Cost(3.7, 0.36, 1.1)),
)
"""Of FP32. On an H200 the cheapest of these takes 1 and 3 % longer over the products of UniAD-base and tiny than the
fastest of 12 tiles. Costs say which is the faster one, not how fast it is: large products take two to three times as
long."""
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
    costs: list[tuple[float, Tile]] = []
    for tile, cost in PAIRS if parts == 2 else ONE_PART:
        programs = tile.programs(rows, columns)
        whole = replace(tile, summed=tile.summed if channels % tile.summed == 0 else 32)
        costs.append((cost.of(programs, length), whole))
        for splits in SPLITS[1:]:
            if programs * splits <= MOST_SHARING and length // splits >= SHORTEST_SHARE:
                costs.append((cost.of(programs * splits, length // splits) + SHARING, replace(whole, splits=splits)))
    return min(costs, key=lambda found: found[0])[1]


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
