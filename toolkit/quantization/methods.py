"""How the range of a tensor follows from the values that were seen of it."""

from __future__ import annotations

from enum import StrEnum


class Method(StrEnum):
    """Where a tensor is clipped: `MAX` clips nothing, `PERCENTILE` one value in ten thousand, `MSE` makes the squared
    error of rounding and clipping least, `ENTROPY` the information that is lost (the Kullback-Leibler divergence).
    """

    MAX = "max"
    ENTROPY = "entropy"
    PERCENTILE = "percentile"
    MSE = "mse"
