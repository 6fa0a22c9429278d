"""Which block of the result a program of a kernel computes: chosen by the size, so that the GPU is filled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

FILLED = 128
"""Programs that keep a GPU busy; large ones have about as many multiprocessors."""
SHORTEST_SPLIT = 256
"""Elements of a sum that are worth a program of their own."""
MOST_SPLITS = 8


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


def product_tile(rows: int, columns: int, length: int, channels: int, parts: int) -> Tile:
    """The tile of a product [rows, length] x [length, columns], with the weight in `parts`.

    `channels`, a multiple of 32, are the elements of a sum that lie together. Chosen on an H100 from 16 tiles and 5
    splits for the products of UniAD-tiny.
    """
    summed = 64 if channels % 64 == 0 else 32
    tile = _one_part(rows, columns, length, summed) if parts == 1 else _two_parts(rows, columns, length, summed)
    return replace(tile, splits=_splits(tile.programs(rows, columns), length))


def _one_part(rows: int, columns: int, length: int, summed: int) -> Tile:
    wide = Tile(64, 128, 32, 4, 3)
    if rows <= 128:
        return Tile(16, 32, summed, 2, 3)
    if rows <= 800 and length <= 512:
        return Tile(32, 32, summed, 4, 3)
    return wide if wide.programs(rows, columns) >= 2 * FILLED else Tile(64, 64, summed, 4, 3)


def _two_parts(rows: int, columns: int, length: int, summed: int) -> Tile:
    wide = Tile(64, 128, 32, 4, 3)
    if rows <= 128:
        return Tile(16, 32, summed, 2, 3)
    if rows <= 400 and length <= 512:
        return Tile(32, 32, 32, 4, 4) if columns <= 256 else Tile(32, 64, summed, 4, 3)
    if rows <= 1000 and columns <= 256 and length <= 256:
        return Tile(32, 64, summed, 4, 3)
    if columns >= 128 and (wide.programs(rows, columns) >= FILLED or length >= 1024):
        return wide
    return Tile(64, 32, 32, 4, 4)


def attention_tile(batch_heads: int, queries: int, keys: int) -> Tile:
    """The tile of attention: rows are queries, summed elements keys, and a column is a head of a batch element."""
    if max(queries, keys) <= 16:
        return Tile(16, 1, 16, 1, 2)
    rows = 64 if queries >= 512 else 32
    tile = Tile(rows, 1, 64, 4, 2)
    # A block waits at every step for the one before, so a multiprocessor needs several.
    return replace(tile, splits=_splits(tile.programs(queries, batch_heads), keys, 4 * FILLED))


def _splits(programs: int, length: int, wanted: int = FILLED) -> int:
    """How many programs share a sum of `length` elements, so that about as many as wanted run."""
    splits = 1
    while splits < MOST_SPLITS and programs * splits < wanted and length // (2 * splits) >= SHORTEST_SPLIT:
        splits *= 2
    return splits
