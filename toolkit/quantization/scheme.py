"""How a model is to be quantized: to which type, which of its layers, and what stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from toolkit.graph.precision.policy import FP16, PrecisionPolicy


class QuantizationMode(StrEnum):
    """The 8-bit type of weights and activations."""

    INT8 = "int8"
    FP8 = "fp8"
    """``float8e4m3fn``, which GPUs have from compute capability 8.9 on."""

    @property
    def largest(self) -> float:
        """The number that the largest code stands for when the scale is 1; codes are symmetric about zero."""
        return {QuantizationMode.INT8: 127.0, QuantizationMode.FP8: 448.0}[self]


class LayerClass(StrEnum):
    """The kinds of layers that can be quantized."""

    CONVOLUTION = "convolution"
    LINEAR = "linear"
    """A matrix product with a constant weight."""
    PRODUCT = "product"
    """A matrix product of two activations, as in attention."""


WEIGHTED = frozenset({LayerClass.CONVOLUTION, LayerClass.LINEAR})


@dataclass(frozen=True)
class Scheme:
    """Which layers of a model are quantized, and to which type.

    Of the layers of `classes`, all are but those that

    - the `policy` of reduced precision leaves in FP32: narrow ones, and what submodules ask for;
    - match a pattern of `keep`: of a node's name, its op type, or its submodule;
    - match none of `only`, if it names any. These must match something, and what they match must have an 8-bit form.
    """

    mode: QuantizationMode
    keep: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    classes: frozenset[LayerClass] = WEIGHTED
    policy: PrecisionPolicy = FP16
