"""How the magnitudes of one tensor are distributed over all frames of a calibration, and where to clip them."""

from __future__ import annotations

import math

import cv2
import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from toolkit.quantization.methods import Method
from toolkit.quantization.scheme import QuantizationMode

Floats = NDArray[np.float64]

BINS = 8192
"""Of a histogram. Its reach is up to twice the largest magnitude, so at least half of them are in use."""
PERCENTILE = 0.9999
"""Share of the values that the method of this name does not clip."""
_ENTROPY_LEVELS = 128
_CANDIDATES = 128
"""Limits that the method `mse` tries."""


class Histogram:
    """Counts of magnitudes, fed array by array; nothing of an array is kept.

    `low` and `high` are the least and the largest value so far, `count` the number of values. Bins have one width; when
    a value exceeds their reach, a power of two, neighbours are merged.
    """

    def __init__(self) -> None:
        self.low, self.high, self.count = math.inf, -math.inf, 0
        self.reach = 0.0
        self.bins: Floats = np.zeros(BINS)

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(-self.low, self.high, 0.0)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count an array of any shape. ValueError for values that are not finite."""
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("holds values that are not finite")
        self.low, self.high, self.count = min(self.low, low), max(self.high, high), self.count + values.size
        if not self.largest:
            self.bins[0] += values.size
            return
        self._widen(math.ldexp(1.0, math.frexp(self.largest)[1]))
        magnitudes = np.abs(values, dtype=np.float32).reshape(-1, 1)
        self.bins += cv2.calcHist([magnitudes], [0], None, [BINS], [0.0, self.reach]).ravel()

    def limit(self, method: Method, mode: QuantizationMode = QuantizationMode.INT8) -> float:
        """Where to clip, by a method, for a type; 0 for a tensor of zeros."""
        if not self.largest or method is Method.MAX:
            return self.largest
        find = {Method.PERCENTILE: self._percentile, Method.ENTROPY: self._entropy}.get(method)
        return min(self._least_error(mode) if find is None else find(), self.largest)

    def saturated(self, limit: float) -> float:
        """Share of the values that a limit clips."""
        if not self.reach or limit >= self.largest:
            return 0.0
        return float(self.bins[math.ceil(limit / self._width) :].sum() / self.count)

    @property
    def outliers(self) -> float:
        """By how much the largest magnitude exceeds all but one value in ten thousand; 1 if it does not."""
        return self.largest / self.limit(Method.PERCENTILE) if self.largest else 1.0

    @property
    def _width(self) -> float:
        return self.reach / BINS

    def _widen(self, reach: float) -> None:
        """Let the bins reach so far."""
        if reach <= self.reach:
            return
        if self.reach:
            merged = min(round(reach / self.reach), BINS)
            self.bins = np.concatenate([self.bins.reshape(-1, merged).sum(1), np.zeros(BINS - BINS // merged)])
        self.reach = reach

    def _percentile(self) -> float:
        reached = int(np.searchsorted(np.cumsum(self.bins), PERCENTILE * self.count))
        return (reached + 1) * self._width

    def _least_error(self, mode: QuantizationMode) -> float:
        """The limit at which rounding and clipping together make the least squared error."""
        centres: Floats = (np.arange(BINS, dtype=np.float64) + 0.5) * self._width
        limits: Floats = self.largest * np.geomspace(2.0**-6, 1, _CANDIDATES)
        rounded = _rounded_int8 if mode is QuantizationMode.INT8 else _rounded_fp8
        errors = [float(self.bins @ (centres - rounded(centres, limit)) ** 2) for limit in limits.tolist()]
        return float(limits[int(np.argmin(errors))])

    def _entropy(self) -> float:
        """The limit whose 128 levels tell most of the distribution; zeros, which every scale holds, do not count."""
        bins = self.bins.copy()
        bins[0] = bins[1]
        divergences = {end: _divergence(bins, end) for end in range(_ENTROPY_LEVELS, BINS + 1, _ENTROPY_LEVELS)}
        return min(divergences, key=divergences.__getitem__) * self._width


def _rounded_int8(magnitudes: Floats, limit: float) -> Floats:
    largest = QuantizationMode.INT8.largest
    step = limit / largest
    return np.asarray(np.minimum(np.round(magnitudes / step), largest) * step)


def _rounded_fp8(magnitudes: Floats, limit: float) -> Floats:
    largest = QuantizationMode.FP8.largest
    scale = limit / largest
    clipped = np.minimum(magnitudes / scale, largest)
    return np.asarray(clipped.astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * scale)


def _divergence(bins: Floats, end: int) -> float:
    """Of the distribution that is clipped at bin `end`, a multiple of the levels, from that which the levels tell."""
    clipped = bins[:end].copy()
    levels = clipped.reshape(_ENTROPY_LEVELS, -1)
    filled = levels > 0
    means = levels.sum(1) / np.maximum(filled.sum(1), 1)
    told = (means[:, None] * filled).ravel()
    clipped[-1] += bins[end:].sum()
    if not told.any():
        return math.inf
    p, q = clipped / clipped.sum(), told / told.sum()
    seen = p > 0
    if not q[seen].all():  # what is clipped falls where nothing was
        q = np.where(seen & (q == 0), np.finfo(np.float32).tiny, q)
    return float(np.sum(p[seen] * np.log(p[seen] / q[seen])))
