"""The ranges of a model's tensors, as calibration finds them, and how its file has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from toolkit.storage.typed import Misfit, Text, decode

Magnitude = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Factor = Annotated[float, msgspec.Meta(ge=1)]
SOURCE = "source"
"""Field in which a calibration says what it was made from (`toolkit.quantization.calibration_file`)."""


@dataclass(frozen=True)
class TensorRange:
    """What values a tensor takes, and how far 8-bit codes reach.

    The largest code stands for `threshold`, an absolute value; `beyond` is the share of values that lie farther out.
    `outliers` is by how much the largest magnitude exceeds that of all but one value in ten thousand.
    """

    minimum: float
    maximum: float
    threshold: Magnitude
    beyond: Share = 0.0
    outliers: Factor = 1.0


Ranges = Mapping[str, TensorRange]
"""By the tensor's name."""


@dataclass(frozen=True)
class _RangesFile:
    tensors: Mapping[Text, TensorRange]


def ranges_of(document: object) -> dict[str, TensorRange]:
    """The ranges in the JSON document of a calibration, without its format. Raises Misfit for a damaged one."""
    ranges = decode(_RangesFile, document, ignored=(SOURCE,)).tensors
    for name, found in ranges.items():
        if found.minimum > found.maximum:
            raise Misfit(f"$.tensors.{name}", f"its minimum {found.minimum:g} is above its maximum")
    return dict(ranges)
