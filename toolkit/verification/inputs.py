"""Whether frames are prepared as a training environment prepares them, input by input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from toolkit.config.model import ImageConfig
from toolkit.data.pictures import IMAGE
from toolkit.specs import Tolerance
from toolkit.verification.comparison import Comparison
from toolkit.verification.metrics import measure
from toolkit.verification.picture_differences import picture_difference
from toolkit.verification.recording import RecordedFrame

PREPARATION = "preparation"
"""Stands for a submodule where inputs are compared."""
CAN_BUS_BOUND = 1e-3
TOLERANCES: Mapping[str, Tolerance] = MappingProxyType(
    {
        IMAGE: Tolerance(norm=1e-2),
        "lidar2img": Tolerance(norm=1e-4),
        "can_bus": Tolerance(largest=CAN_BUS_BOUND),
        "timestamp": Tolerance(largest=1e-3),
        "l2g_rotation": Tolerance(largest=1e-4),
        "l2g_translation": Tolerance(largest=1e-2),
    }
)
"""Decoders of JPEG differ by a step of brightness; the rest is rounding. Other inputs must be equal."""
CAN_BUS_PARTS = {
    "the move since the frame before": slice(0, 3),
    "the rotation": slice(3, 7),
    "the readings of the CAN bus": slice(7, 16),
    "the heading": slice(16, 17),
    "the turn since the frame before": slice(17, 18),
}


@dataclass(frozen=True)
class InputComparison:
    """One dumped input beside the prepared one, and in what they differ, if they do."""

    comparison: Comparison
    reason: str | None


class InputCheck:
    """Compares frame after frame. Times count from the first frame of the scene in the dump."""

    def __init__(self) -> None:
        self._starts: tuple[np.ndarray, np.ndarray] | None = None

    def compare(self, number: int, frame: RecordedFrame, image: ImageConfig) -> list[InputComparison]:
        """What the dump and the preparation both have of a frame."""
        names = [name for name in frame.inputs if name in frame.dumped and name in frame.prepared]
        pairs = {name: (frame.inputs[name], frame.prepared[name]) for name in names}
        if "timestamp" in pairs:
            dumped, prepared = pairs["timestamp"]
            if self._starts is None or not np.all(frame.inputs.get("use_previous", 1)):
                self._starts = dumped, prepared
            pairs["timestamp"] = dumped - self._starts[0], prepared - self._starts[1]
        found = []
        for name, (dumped, prepared) in pairs.items():
            tolerance = TOLERANCES.get(name, Tolerance(share=0.0))
            comparison = Comparison(number, PREPARATION, name, measure(dumped, prepared), tolerance)
            reason = None if comparison.passed else _reason(name, dumped, prepared, image)
            found.append(InputComparison(comparison, reason))
        return found


def _reason(name: str, dumped: np.ndarray, prepared: np.ndarray, image: ImageConfig) -> str | None:
    if name == IMAGE:
        return picture_difference(dumped, prepared, image)
    if name == "can_bus":
        apart = np.abs(dumped - prepared)
        return f"in {' and '.join(part for part, at in CAN_BUS_PARTS.items() if (apart[at] > CAN_BUS_BOUND).any())}"
    return None
