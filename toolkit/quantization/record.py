"""What is known about a quantized bundle: how it was calibrated, what was chosen and why, and which gates hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.bundle import Bundle
from toolkit.evaluation.metric import Plot, PlotKind, Series
from toolkit.quantization.calibration_file import Source
from toolkit.quantization.gates import Finding
from toolkit.quantization.sensitivity import Effect, Step
from toolkit.storage.json_file import read_format, refusing
from toolkit.storage.outputs import new_file
from toolkit.storage.typed import Count, Misfit, Text, decode

QUANTIZATION = "quantization.json"
"""In the folder of a quantized bundle; its ranges are in `CALIBRATION`, its plot in `PLOT`."""
CALIBRATION, PLOT = "calibration.json", "quantization.png"
_FORMAT = 1
_REMEDY = "quantize again"
_BEYOND = 1e9
"""Stands for an infinite error, which JSON has not."""


@dataclass(frozen=True)
class QuantizationRecord:
    """`original` is the `Bundle.identity` of the FP32 bundle.

    `layers` are those that compute with 8 bits, `kept` all others that could, with the reason. `effects` and `steps`
    are those of the search (`toolkit.quantization.sensitivity`), of which the last step holds over `frames` frames of
    the drive at an address. `driving` is what the ground truth says, if it was asked.
    """

    original: Text
    source: Source
    drive: Text
    frames: Count
    layers: tuple[Text, ...]
    kept: Mapping[Text, Text]
    effects: tuple[Effect, ...]
    steps: tuple[Step, ...]
    driving: tuple[Finding, ...] = ()

    @property
    def gates(self) -> tuple[Finding, ...]:
        """What they found about the bundle as it is."""
        return self.steps[-1].findings

    def summary(self) -> dict[str, Any]:
        """For the bundle's provenance."""
        return {
            "mode": self.source.mode.value,
            "method": self.source.method.value,
            "calibrated on": f"{self.source.frames} frames of {self.source.address}",
            "layers": f"{len(self.layers)} of {len(self.layers) + len(self.kept)}",
            "gates": f"hold over {self.frames} frames of {self.drive}",
            "kept by the search": [step.kept for step in self.steps if step.kept],
            "original": self.original,
        }

    def write(self, folder: Path) -> None:
        """Write it into a bundle's folder."""
        values = {"format": _FORMAT} | asdict(self)
        with new_file(folder / QUANTIZATION) as work:
            work.write_text(json.dumps(_finite(values), indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, bundle: Bundle) -> QuantizationRecord | None:
        """That of a bundle; None if it is not quantized. Raises InputError for a damaged one."""
        if bundle.quantization is None:
            return None
        path = bundle.path / QUANTIZATION
        values = read_format(path, _FORMAT, _REMEDY)
        with refusing(path, _REMEDY):
            record = decode(cls, values)
            for field in ("layers", "steps"):
                if not getattr(record, field):
                    raise Misfit(f"$.{field}", "is empty")
            for findings in (*(e.findings for e in record.effects), *(step.findings for step in record.steps)):
                if not findings:
                    raise Misfit("$", "the search has a set of layers without findings")
        return record

    def plot(self) -> Plot:
        """How much quantizing hurts, over the share of layers that is quantized."""
        return Plot(
            "sensitivity",
            "Worst gate, as a multiple of its bound, over the share of layers in 8 bits",
            "layers in 8 bits (%)",
            "error over bound",
            (
                _series("one submodule or layer class", [(e.share, e.findings) for e in self.effects]),
                _series("the search", [(step.share, step.findings) for step in self.steps]),
            ),
            PlotKind.POINTS,
        )


def _series(label: str, points: list[tuple[float, tuple[Finding, ...]]]) -> Series:
    """Errors over bounds; a gap where one is infinite."""
    ordered = sorted((100 * share, max(finding.severity for finding in findings)) for share, findings in points)
    return Series(label, [x for x, _ in ordered], [y if math.isfinite(y) and y < _BEYOND else None for _, y in ordered])


def _finite(value: Any) -> Any:
    """A value as JSON knows it, with infinity as a large number."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return min(value, _BEYOND) if isinstance(value, float) else value
