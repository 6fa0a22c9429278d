"""A calibration with what it was made from, and its file: the ranges of `ranges.py`, that belong to one bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.bundle import Bundle
from toolkit.errors import InputError
from toolkit.quantization.calibration import Collected, RowsInUse
from toolkit.quantization.drive import Drive
from toolkit.quantization.methods import Method
from toolkit.quantization.ranges import SOURCE, Ranges, TensorRange, ranges_of
from toolkit.quantization.scheme import QuantizationMode
from toolkit.storage.claims import FileOutput
from toolkit.storage.json_file import read_format, refusing
from toolkit.storage.outputs import new_file
from toolkit.storage.typed import Count, Misfit, Text, decode

FORMAT = 1
REMEDY = "calibrate again"


@dataclass(frozen=True)
class Source:
    """What ranges were made from: `Bundle.identity`, and the frames at an address, with the digest of `Drive`.

    `rows` says how full the tables of the state were.
    """

    bundle: Text
    address: Text
    digest: Text
    frames: Count
    scenes: Count
    mode: QuantizationMode
    method: Method
    rows: tuple[RowsInUse, ...]


@dataclass(frozen=True)
class Calibration:
    """The ranges of a bundle's tensors, by the names in its plain model."""

    source: Source
    ranges: Ranges

    @classmethod
    def of(
        cls, bundle: Bundle, drive: Drive, collected: Collected, mode: QuantizationMode, method: Method
    ) -> Calibration:
        """The ranges that follow from what was collected on a drive."""
        source = Source(
            bundle.identity,
            drive.address,
            drive.digest(),
            collected.frames,
            len(drive.scenes),
            mode,
            method,
            collected.rows,
        )
        return cls(source, ranges_from(collected, mode, method))

    def write(self, output: FileOutput | Path) -> None:
        """Write it as JSON. Raises InputError if that is not possible."""
        document = {
            "format": FORMAT,
            SOURCE: asdict(self.source),
            "tensors": {name: asdict(found) for name, found in self.ranges.items()},
        }
        with new_file(output) as work:
            work.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Calibration:
        """What `write` wrote. Raises InputError for another file, or a damaged one."""
        document: Mapping[str, Any] = read_format(path, FORMAT, REMEDY)
        with refusing(path, REMEDY):
            ranges = ranges_of(document)
            if SOURCE not in document:
                raise Misfit("$", f"field {SOURCE!r} is missing")
            return cls(decode(Source, document[SOURCE], root=f"$.{SOURCE}"), ranges)


def ranges_from(collected: Collected, mode: QuantizationMode, method: Method) -> Ranges:
    """The range of each tensor of which values were counted."""
    ranges = {}
    for name, histogram in collected.histograms.items():
        limit = histogram.limit(method, mode)
        ranges[name] = TensorRange(histogram.low, histogram.high, limit, histogram.saturated(limit), histogram.outliers)
    return ranges


def reused(path: Path, bundle: Bundle, drive: Drive, mode: QuantizationMode, method: Method) -> Calibration:
    """The calibration in a file, if it is that of this bundle, drive, mode and method. Raises InputError otherwise."""
    found = Calibration.read(path)
    source = found.source
    differences = {
        "of another bundle": source.bundle != bundle.identity,
        "of other frames": source.digest != drive.digest(),
        f"for {source.mode.value}": source.mode is not mode,
        f"by the method {source.method.value}": source.method is not method,
    }
    for difference, applies in differences.items():
        if applies:
            raise InputError(f"{path} is a calibration {difference}; name another file, or delete it")
    return found
