"""Golden sequences through sessions, and how their outputs compare with the reference's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NOISE_FACTOR = 10
"""Allowed multiple of the reference's own float32-to-float64 difference: its figure is one sample, not a bound."""

OCCUPANCY_THRESHOLD = 0.1
OCCUPANCY_MARGIN = 2e-4
"""Cells whose golden score is this close to the threshold may flip."""


@dataclass(frozen=True)
class GoldenSequence:
    """Outputs of the reference for one sequence, and its noise per output."""

    seed: str
    frames: int
    arrays: dict[str, np.ndarray]
    noise: dict[str, float]
    spare_cells: int
    """Occupancy cells a frame that may differ because the reference's own attention mask flips in float64."""

    @classmethod
    def load(cls, folder: Path, seed: str) -> GoldenSequence:
        table: dict[str, Any] = json.loads((folder / f"noise_seed{seed}.json").read_text())
        noise = {key.removeprefix("out."): entry["max_abs"] for key, entry in table.items() if isinstance(entry, dict)}
        frames, spare_cells = {"A": (6, 0), "C": (10, 20)}[seed]
        return cls(seed, frames, dict(np.load(folder / f"golden_seed{seed}.npz")), noise, spare_cells)

    def mismatches(self, frame: int, outputs: dict[str, np.ndarray]) -> list[str]:
        """What differs from the reference in the official outputs of one frame by more than is fair."""
        prefix = f"f{frame}.out."
        expected = {key.removeprefix(prefix): a for key, a in self.arrays.items() if key.startswith(prefix)}
        faults = []
        for name, wanted in expected.items():
            actual = outputs[name]
            if actual.shape != wanted.shape or actual.dtype != wanted.dtype:
                faults.append(f"f{frame}.{name}: {actual.dtype}{actual.shape}, not {wanted.dtype}{wanted.shape}")
            elif name == "seg_out":
                faults += self._occupancy_faults(frame, wanted, actual)
            elif wanted.dtype.kind != "f":
                if not np.array_equal(actual, wanted):
                    faults.append(f"f{frame}.{name}: {int((actual != wanted).sum())} of {wanted.size} differ")
            else:
                faults += self._float_faults(frame, name, wanted, actual)
        return faults

    def _float_faults(self, frame: int, name: str, wanted: np.ndarray, actual: np.ndarray) -> list[str]:
        error = np.abs(actual.astype(np.float64) - wanted)
        if name == "bboxes_dict_bboxes":
            error[:, 6] = np.abs((error[:, 6] + np.pi) % (2 * np.pi) - np.pi)
        worst, bound = float(error.max(initial=0)), NOISE_FACTOR * self.noise[name]
        return [] if worst <= bound else [f"f{frame}.{name}: error {worst:.3g} exceeds {bound:.3g}"]

    def _occupancy_faults(self, frame: int, wanted: np.ndarray, actual: np.ndarray) -> list[str]:
        score = self.arrays[f"f{frame}.aux.occ.seg_score_max"].reshape(wanted.shape)
        clear = np.abs(score - OCCUPANCY_THRESHOLD) > OCCUPANCY_MARGIN
        flips = int(((wanted != actual) & clear).sum())
        return [] if flips <= self.spare_cells else [f"f{frame}.seg_out: {flips} cells differ"]
