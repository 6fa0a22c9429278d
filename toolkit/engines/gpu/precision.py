"""What the GPU session computes matrix products and convolutions in; everything else is FP32 always.

Submodules that keep FP32 do so in every precision.
"""

from __future__ import annotations

from enum import StrEnum


class Precision(StrEnum):
    """Of the factors of products. Sums are FP32 in each; so are tensors in memory, but for images between convolutions,
    which have the type of their factors in FP16 and BF16.
    """

    FP32 = "fp32"
    """Split into two TF32 parts where tensor cores multiply them: the default."""
    TF32 = "tf32"
    """Factors rounded to 10 bits of mantissa, as tensor cores take them."""
    FP16 = "fp16"
    """Factors in FP16."""
    BF16 = "bf16"
    """Factors in BF16."""
