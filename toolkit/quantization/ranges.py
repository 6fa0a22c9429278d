"""The ranges of a model's tensors, as calibration finds them, and their file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from toolkit.storage.claims import FileOutput
from toolkit.storage.json_file import read_format, refusing
from toolkit.storage.outputs import new_file
from toolkit.storage.typed import Misfit, Text, decode

Magnitude = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Factor = Annotated[float, msgspec.Meta(ge=1)]
FORMAT = 1
REMEDY = "calibrate again"
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


def write_ranges(ranges: Ranges, output: FileOutput | Path) -> None:
    """Write ranges as JSON. Raises InputError if that is not possible."""
    document = {"format": FORMAT, "tensors": {name: asdict(found) for name, found in ranges.items()}}
    with new_file(output) as work:
        work.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_ranges(path: Path) -> dict[str, TensorRange]:
    """What `write_ranges` wrote. Raises InputError for a damaged file, or one of another kind."""
    document = read_format(path, FORMAT, REMEDY)
    with refusing(path, REMEDY):
        ranges = decode(_RangesFile, document, ignored=(SOURCE,)).tensors
        for name, found in ranges.items():
            if found.minimum > found.maximum:
                raise Misfit(f"$.tensors.{name}", f"its minimum {found.minimum:g} is above its maximum")
    return dict(ranges)
