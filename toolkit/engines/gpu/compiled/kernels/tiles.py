"""Which block of the result a program of a kernel computes: chosen by the size, so that the GPU is filled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, prod

import torch
from torch import Tensor

from toolkit.precision import Precision

MULTIPROCESSORS = 132
"""Of an H100, on which everything here was measured."""
SPLITS = (1, 2, 4, 8)
"""How many programs may share a sum of a product."""
MOST_SPLITS = 16
"""And the keys of attention."""


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


TF32 = (
    (Tile(16, 32, 64, 2, 3), Cost(0.2, 0.08, 0.15)),
    (Tile(64, 64, 32, 4, 3), Cost(1.0, 0.3, 0.2)),
)
"""For the products of UniAD-tiny, the faster of these two is on average within a few percent of the best of 8 tiles.
Costs are those with which the cheaper one is the faster one."""
REDUCED = (
    (Tile(16, 32, 64, 2, 3), Cost(0.35, 0.052, 0.34)),
    (Tile(64, 32, 64, 4, 4), Cost(2.6, 0.091, 0.12)),
    (Tile(64, 64, 32, 4, 3), Cost(0.59, 0.2, 0.75)),
    (Tile(64, 128, 64, 4, 3), Cost(1.6, 0.2, 0.31)),
    (Tile(128, 256, 64, 8, 3), Cost(8.1, 0.57, 0.1)),
)
"""Of FP16 and BF16. On an H200 the cheapest of these takes 4 % longer over the convolutions of UniAD-base that are this
kernel's than the fastest of 15 tiles. Costs are as in `PAIRS`."""
PAIRS = (
    (Tile(16, 32, 64, 2, 3), Cost(0.37, 0.13, 0.37)),
    (Tile(64, 32, 64, 4, 3), Cost(1.2, 0.2, 0.37)),
    (Tile(64, 64, 32, 4, 3), Cost(1.2, 0.47, 0.62)),
    (Tile(64, 64, 64, 4, 3), Cost(3.0, 0.16, 0.34)),
    (Tile(64, 128, 32, 4, 3), Cost(5.4, 0.2, 1.1)),
)
"""Of FP32. On an H200 the cheapest of these takes 2 % longer over the products of UniAD-base and tiny than the fastest
of 12 tiles. Costs say which is the faster one, not how fast it is: large products take two to three times as
long."""
SHARING = 1.0
"""Microseconds until programs that share a sum have added it up."""
SHORTEST_SHARE = 128
"""Elements of a product's sum that are worth a program of their own."""
MOST_SHARING = 600
"""Programs that may share sums, in all."""


def product_tile(rows: int, weight: Tensor) -> Tile:
    """The tile of a product with `rows` rows and the parts of a weight: [parts, columns, kernel height, kernel width,
    channels], or [parts, columns, inputs].

    Channels, a multiple of 32, are the elements of a sum that lie together.
    """
    parts, columns, *taps = weight.shape
    length = prod(taps)
    costs: list[tuple[float, Tile]] = []
    for tile, cost in PAIRS if parts == 2 else TF32 if weight.dtype == torch.float32 else REDUCED:
        programs = tile.programs(rows, columns)
        whole = replace(tile, summed=tile.summed if taps[-1] % tile.summed == 0 else 32)
        costs.append((cost.of(programs, length), whole))
        for splits in SPLITS[1:]:
            if programs * splits <= MOST_SHARING and length // splits >= SHORTEST_SHARE:
                costs.append((cost.of(programs * splits, length // splits) + SHARING, replace(whole, splits=splits)))
    return min(costs, key=lambda found: found[0])[1]


SHORT_PAIRS = (
    (Tile(16, 32, 64, 2, 1), 2 * MULTIPROCESSORS),
    (Tile(64, 64, 64, 4, 1), 2 * MULTIPROCESSORS),
)
SHORT_TF32 = (
    (Tile(32, 64, 256, 4, 1), MULTIPROCESSORS),
    (Tile(64, 64, 256, 4, 1), MULTIPROCESSORS),
)
SHORT_REDUCED = (
    (Tile(16, 64, 256, 2, 1), 2 * MULTIPROCESSORS),
    (Tile(64, 64, 256, 4, 1), MULTIPROCESSORS),
    (Tile(64, 128, 256, 4, 1), MULTIPROCESSORS),
)
SHORT_REDUCED_512 = (
    (Tile(16, 64, 512, 4, 1), MULTIPROCESSORS),
    (Tile(32, 64, 512, 4, 1), MULTIPROCESSORS),
)
"""Tiles of products whose sums are asked for at once, and the most programs with which each beats the next one, and the
last one `product_tile`: of 12 on an H200, with weights out of its cache, 49 to 2,500 rows and 64 to 768 columns. In
FP32 and TF32, sums of 512 are too long for a program's registers."""


def short_tile(rows: int, weight: Tensor) -> Tile | None:
    """The tile of a linear layer by `short_product_kernel`, if that is faster; `weight` is [parts, columns, inputs]."""
    parts, columns, inputs = weight.shape
    known: dict[int, tuple[tuple[Tile, int], ...]] = {256: SHORT_REDUCED, 512: SHORT_REDUCED_512}
    if weight.dtype == torch.float32:
        known = {256: SHORT_TF32}
    elif parts == 2:
        known = {256: SHORT_PAIRS}
    tiles = known.get(inputs, ())
    return next((tile for tile, most in tiles if tile.programs(rows, columns) <= most), None)


def matmul_tile(batch: int, rows: int, columns: int, length: int) -> Tile:
    """The tile of products of two computed matrices, of which the sums are a multiple of 32.

    Of five on an H200, the fastest or 1 µs behind for those of UniAD-tiny, in FP32 and FP16.
    """
    small, large = Tile(16, 32, 64, 2, 3), Tile(64, 64, 64, 4, 3)
    tile = small if rows < small.rows or large.programs(rows, columns) * batch < MULTIPROCESSORS else large
    return replace(tile, summed=tile.summed if length % tile.summed == 0 else 32)


ATTENTION_PROGRAMS = 512
"""That keep a GPU busy with attention."""
SHORTEST_KEYS = 256
"""That are worth a program of their own."""
AT_ONCE = 2
"""Programs of FP32's attention that a multiprocessor has registers for."""


def attention_tile(batch_heads: int, queries: int, keys: int, precision: str) -> Tile:
    """The tile of attention: rows are queries, summed elements keys, and a column is a head of a batch element."""
    if max(queries, keys) <= 16:
        return Tile(16, 1, 16, 1, 2)
    if queries >= 512 and precision == Precision.FP32:
        # Of seven for 1150 queries and keys on an H200 the fastest, where all programs run at once.
        tile = Tile(128, 1, 32, 4, 2)
        fitting = AT_ONCE * MULTIPROCESSORS // tile.programs(queries, batch_heads)
        return replace(tile, splits=max(1, min(fitting, MOST_SPLITS, keys // SHORTEST_KEYS)))
    tile = Tile(64 if queries >= 512 else 32, 1, 64, 4, 2)
    # A block waits at every step for the one before, so a multiprocessor needs several.
    programs, splits = tile.programs(queries, batch_heads), 1
    while splits < MOST_SPLITS and programs * splits < ATTENTION_PROGRAMS and keys // (2 * splits) >= SHORTEST_KEYS:
        splits *= 2
    return replace(tile, splits=splits)


MOST_CHANNELS = 512
"""That a program samples at once."""


def sampling_tile(channels: int) -> Tile:
    """The tile of samples of an image: rows are positions, summed elements channels, as many as a power of two.

    Of nine on an H200, within 10 % of the fastest for both stages of UniAD-base that sample, in FP32 and FP16.
    """
    return Tile(4, 1, min(channels & -channels, MOST_CHANNELS), 2, 1)
