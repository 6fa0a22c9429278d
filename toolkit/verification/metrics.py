"""How far two arrays are apart, in every measure that a report shows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from toolkit.specs import Angles

BLOCK = 1 << 22
"""Entries of an array that are looked at together: in FP64, and with all that is computed of them, they take 0.3 GB."""


@dataclass(frozen=True)
class Errors:
    """Differences between an expected and an actual array, as float64.

    `largest` and `mean` are of |a - b|. `largest_relative` and `mean_relative` are of |a - b| over |a| or the root mean
    square of a, whichever is larger: entries near zero would drown it otherwise. `norm` is |a - b| / |a| in L2 norms,
    `cosine` the cosine between both, `share` the share of entries that differ at all. `non_finite` counts NaN and
    infinite entries of the expected and of the actual array; where they are not the same, every error is infinite.
    """

    largest: float
    mean: float
    largest_relative: float
    mean_relative: float
    norm: float
    cosine: float
    share: float
    non_finite: tuple[int, int]


def measure(expected: np.ndarray, actual: np.ndarray, angles: Angles = ()) -> Errors:
    """Differences of two arrays of one shape. `angles` are compared modulo 2π, as in `TensorSpec`."""
    size, differing, non_finite, alike, squares = max(expected.size, 1), 0, [0, 0], True, 0.0
    for a, b in blocks(expected, actual):
        finite = np.isfinite(a), np.isfinite(b)
        both = finite[0] & finite[1]
        differing += int(np.count_nonzero((a != b) & ~(np.isnan(a) & np.isnan(b))))
        non_finite = [count + int(np.count_nonzero(~mask)) for count, mask in zip(non_finite, finite, strict=True)]
        alike &= np.array_equal(a[~both], b[~both], equal_nan=True)
        squares += _product(np.where(both, a, 0))
    share, broken = differing / size, (non_finite[0], non_finite[1])
    if not alike:
        inf = math.inf
        return Errors(inf, inf, inf, inf, inf, 0.0, share, broken)
    length, typical = math.sqrt(squares), math.sqrt(squares / size)
    largest = largest_relative = total = total_relative = distances = other_squares = product = 0.0
    for a, b in blocks(expected, actual):
        both = np.isfinite(a) & np.isfinite(b)
        difference = np.subtract(a, b, out=np.zeros_like(a), where=both)
        if angles:
            entries = slice(None) if angles == "all" else list(angles)
            turns = difference[..., entries]
            difference[..., entries] = turns - 2 * np.pi * np.round(turns / (2 * np.pi))
        a, error = np.where(both, a, 0), np.abs(difference)
        scale = np.maximum(np.abs(a), typical)
        relative = np.divide(error, scale, out=error.copy(), where=scale > 0)
        largest, total = max(largest, error.max(initial=0)), total + error.sum()
        largest_relative = max(largest_relative, relative.max(initial=0))
        total_relative += relative.sum()
        other = a - difference
        distances += _product(difference)
        other_squares += _product(other)
        product += _product(a, other)
    distance = math.sqrt(distances)
    return Errors(
        largest=float(largest),
        mean=float(total / size),
        largest_relative=float(largest_relative),
        mean_relative=float(total_relative / size),
        norm=distance / length if length else distance,
        cosine=_cosine(product, length, math.sqrt(other_squares)),
        share=share,
        non_finite=broken,
    )


def blocks(expected: np.ndarray, actual: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Both arrays in FP64, a few of their first axis at a time; whole if that has all of their entries."""
    rows = len(expected) if expected.ndim > 1 else 1
    step = max(1, BLOCK * rows // max(expected.size, 1))
    for start in range(0, rows, step):
        part = slice(start, start + step) if rows > 1 else ...
        yield expected[part].astype(np.float64), actual[part].astype(np.float64)


def _product(a: np.ndarray, b: np.ndarray | None = None) -> float:
    """The inner product of two arrays, of the first with itself by default."""
    return float(np.vdot(a, a if b is None else b))


def _cosine(product: float, length: float, other: float) -> float:
    """1 where both are zero, 0 where one is."""
    if 0.0 in (length, other):
        return float(length == other)
    return product / length / other
