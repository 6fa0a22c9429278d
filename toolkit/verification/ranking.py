"""Rows that come sorted by score: which row of one session stands for which of the other's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class RowOrder:
    """`order` [n]: the actual row for each expected one; `settled` [n]: False where rounding may have replaced it."""

    order: np.ndarray
    settled: np.ndarray

    def pair(self, expected: np.ndarray, actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of both that stand for the same thing.

        A tensor with more rows than scores has others behind the ranked ones, which stay in place. One with fewer
        holds the best rows, and its last row may not be ranked (the ego behind the agents): a row is left out if its
        partner lies beyond, or is that one.
        """
        rows, ranked = len(expected), len(self.order)
        shared = min(rows, ranked)
        partner, keep = np.arange(rows), np.ones(rows, bool)
        partner[:shared], keep[:shared] = self.order[:shared], self.settled[:shared]
        if rows < ranked:
            moved = partner != np.arange(rows)
            keep &= ~moved | (np.maximum(partner, np.arange(rows)) < rows - 1)
        return expected[keep], actual[partner[keep]]

    def renumbered(self, expected: np.ndarray, actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Grids of 1 + a row or 0: in the actual one every row becomes the one that it stands for."""
        rows = len(self.order)
        numbers = np.zeros(rows + 1, actual.dtype)
        numbers[1 + self.order] = np.arange(1, rows + 1)
        known = (actual >= 0) & (actual <= rows)
        return expected, np.where(known, numbers[np.where(known, actual, 0)], actual)


def match_rows(
    scores: np.ndarray, expected: Sequence[np.ndarray], actual: Sequence[np.ndarray], gap: float
) -> RowOrder:
    """Pair rows whose places are equal within rounding by what the rows hold.

    `scores` [n] are the expected ones, descending, zero in padding; `expected` and `actual` are all tensors of n rows
    ranked by them. Two places are equal if their scores differ by less than `gap`. Where the list is full, rows that
    equal the last one may have been cut off by the other session: they are not settled.
    """
    count = len(scores)
    order, free = np.arange(count), np.ones(count, bool)
    for row in range(count):
        equal = np.flatnonzero(free & (np.abs(scores - scores[row]) < gap))
        if len(equal):
            equal = np.concatenate((equal[equal == row], equal[equal != row]))  # on equal terms a row stays in place
            distances = sum(_distances(a[row], b[equal]) for a, b in zip(expected, actual, strict=True))
            order[row] = equal[np.argmin(distances)]
        else:
            order[row] = np.flatnonzero(free)[0]
        free[order[row]] = False
    settled = np.ones(count, bool)
    if count and scores[-1] > 0:
        settled = scores - scores[-1] >= gap
    return RowOrder(order, settled)


def _distances(row: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How far each of `others` [m, ...] is from `row` [...]: share of unequal integers, or relative L1 distance."""
    difference = others != row if row.dtype.kind != "f" else np.abs(np.nan_to_num(others - row, posinf=0, neginf=0))
    scale = 1.0 if row.dtype.kind != "f" else float(np.abs(np.nan_to_num(row)).mean()) or 1.0
    return np.asarray(difference.reshape(len(others), -1).mean(1) / scale, np.float64)
