"""How far two arrays are apart, in every measure that a report shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from toolkit.specs import Angles


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
    a, b = expected.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(a), np.isfinite(b)
    non_finite = tuple(int(np.count_nonzero(~mask)) for mask in finite)
    both = finite[0] & finite[1]
    share = float(np.mean((a != b) & ~(np.isnan(a) & np.isnan(b)))) if a.size else 0.0
    if not np.array_equal(a[~both], b[~both], equal_nan=True):
        inf = math.inf
        return Errors(inf, inf, inf, inf, inf, 0.0, share, (non_finite[0], non_finite[1]))
    difference = np.subtract(a, b, out=np.zeros_like(a), where=both)
    if angles:
        entries = slice(None) if angles == "all" else list(angles)
        turns = difference[..., entries]
        difference[..., entries] = turns - 2 * np.pi * np.round(turns / (2 * np.pi))
    a, error = np.where(both, a, 0), np.abs(difference)
    size, length = max(a.size, 1), float(np.linalg.norm(a))
    scale = np.maximum(np.abs(a), length / math.sqrt(size))
    relative = np.divide(error, scale, out=error.copy(), where=scale > 0)
    distance = float(np.linalg.norm(difference))
    return Errors(
        largest=float(error.max(initial=0)),
        mean=float(error.sum() / size),
        largest_relative=float(relative.max(initial=0)),
        mean_relative=float(relative.sum() / size),
        norm=distance / length if length else distance,
        cosine=_cosine(a, a - difference),
        share=share,
        non_finite=(non_finite[0], non_finite[1]),
    )


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """1 where both are zero, 0 where one is."""
    lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if 0.0 in lengths:
        return float(lengths[0] == lengths[1])
    return float(np.vdot(a, b)) / lengths[0] / lengths[1]
