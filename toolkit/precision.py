"""The types that a network can compute in, and which of them each kind of machinery has."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal


class Precision(StrEnum):
    """Of the factors of products and convolutions, as far as they are reduced; sums are FP32 in each."""

    FP32 = "fp32"
    TF32 = "tf32"
    """Factors rounded to 10 bits of mantissa, as tensor cores take them."""
    FP16 = "fp16"
    BF16 = "bf16"


ReducedPrecision = Literal[Precision.FP16, Precision.BF16]
"""What a graph can be rewritten to: the types that ONNX has besides FP32."""
EnginePrecision = Literal[Precision.FP32, Precision.FP16, Precision.BF16]
"""What an engine can be built in; whether its FP32 may be TF32 is a choice of its own."""
