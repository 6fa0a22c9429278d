"""Constants as 8-bit codes and their scales, symmetric about zero."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from toolkit.graph.signed_codes import MIDDLE
from toolkit.quantization.scheme import QuantizationMode

FP8 = np.dtype(ml_dtypes.float8_e4m3fn)


def activation_zero(mode: QuantizationMode) -> np.ndarray:
    """The code of zero in an activation, without dimensions and of the codes' type.

    Those of INT8 are unsigned, and 128 more: ONNX Runtime has faster kernels for these.
    """
    return np.asarray(MIDDLE, np.uint8) if mode is QuantizationMode.INT8 else np.zeros((), FP8)


def weight_zero(mode: QuantizationMode) -> np.ndarray:
    """The code of zero in a weight, likewise."""
    return np.zeros((), np.int8 if mode is QuantizationMode.INT8 else FP8)


def scale_of(threshold: float, mode: QuantizationMode) -> np.ndarray:
    """The scale, FP32 without dimensions, with which the largest code stands for `threshold`."""
    return np.asarray(threshold / mode.largest, np.float32)


def weight_codes(weight: np.ndarray, axis: int, mode: QuantizationMode) -> tuple[np.ndarray, np.ndarray]:
    """The codes of a weight, in its shape, and a scale [n] in FP32 for each entry of an axis, by its largest magnitude.

    A channel that is zero, or so small that its scale is no normal number, has codes of 0 and the scale 1.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scales = (np.abs(weight).max(axis=others, initial=0) / mode.largest).astype(np.float32)
    scales[scales < np.finfo(np.float32).tiny] = 1
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    codes = np.clip(weight / scales.reshape(shape), -mode.largest, mode.largest)
    return (np.rint(codes) if mode is QuantizationMode.INT8 else codes).astype(weight_zero(mode).dtype), scales
