"""Where tensors are clipped, by what was seen of them."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.quantization.histogram import Histogram
from toolkit.quantization.methods import Method
from toolkit.quantization.scheme import QuantizationMode

NORMAL = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)


def histogram(*arrays: np.ndarray) -> Histogram:
    counted = Histogram()
    for array in arrays:
        counted.add(array.astype(np.float32))
    return counted


def test_parts_count_as_the_whole_does() -> None:
    """In whatever order ranges grow."""
    whole, parts = histogram(NORMAL), histogram(*np.split(NORMAL[np.argsort(np.abs(NORMAL))], 40))
    assert (parts.low, parts.high, parts.count) == (whole.low, whole.high, whole.count)
    np.testing.assert_array_equal(parts.bins, whole.bins)


def test_max_clips_nothing() -> None:
    counted = histogram(NORMAL)
    assert counted.limit(Method.MAX) == np.abs(NORMAL).max()
    assert counted.saturated(counted.limit(Method.MAX)) == 0


def test_percentile_clips_one_value_in_ten_thousand() -> None:
    counted = histogram(NORMAL)
    assert counted.limit(Method.PERCENTILE) == pytest.approx(np.quantile(np.abs(NORMAL), 0.9999), rel=1e-3)
    assert counted.saturated(counted.limit(Method.PERCENTILE)) == pytest.approx(1e-4, rel=0.1)


@pytest.mark.parametrize("method", [Method.ENTROPY, Method.PERCENTILE])
def test_an_outlier_does_not_stretch_the_range(method: Method) -> None:
    """It is reported."""
    counted = histogram(NORMAL, np.array([1000.0]))
    assert counted.limit(method) < 20
    assert counted.outliers > 100


def test_mse_clips_an_outlier_if_the_others_gain_more() -> None:
    assert histogram(NORMAL, np.array([30.0])).limit(Method.MSE) < 20
    assert histogram(NORMAL, np.array([1000.0])).limit(Method.MSE) > 500


def test_mse_is_the_least_error() -> None:
    """No other limit that is tried loses less of the very values."""

    def loss(limit: float) -> float:
        step = limit / 127
        return float(np.mean((NORMAL - np.clip(np.round(NORMAL / step), -127, 127) * step) ** 2))

    limit = histogram(NORMAL).limit(Method.MSE)
    assert loss(limit) <= 1.01 * min(loss(other) for other in np.linspace(2, 6, 41))


def test_fp8_keeps_outliers() -> None:
    """Its steps grow with the magnitude, so that clipping costs more than it gains."""
    heavy = histogram(NORMAL**3)
    assert heavy.limit(Method.MSE, QuantizationMode.FP8) > heavy.limit(Method.MSE)


def test_zeros_have_no_range() -> None:
    counted = histogram(np.zeros(10))
    assert [counted.limit(method) for method in Method] == [0, 0, 0, 0]
    assert (counted.saturated(0), counted.outliers) == (0, 1)


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        histogram(np.array([1, np.nan]))
