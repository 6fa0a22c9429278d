"""Do two sessions make the same decisions? The check that ends every conversion.

Both sessions run the same short sequence, each with its own state fed back, and every tensor that crosses a submodule
boundary is compared in execution order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from toolkit.bundle import Bundle
from toolkit.engines.session import Session
from toolkit.errors import CheckFailed
from toolkit.runtime.temporal_runner import TemporalRunner

FLOAT_TOLERANCE = 1e-3
"""Bound on |a - b| / |a| (L2 norms). Reordered FP32 sums differ by 1e-6 to 1e-4 after a few recurrent frames; a wrongly
exported operator differs by more than 1e-2. A norm, not a maximum: one flipped cell of a thresholded mask, whose score
lies within rounding of its threshold, is no defect."""

GRID_FLIPS = 2e-3
"""Share of cells of an integer or boolean grid (three or more dimensions) that may flip, for the same reason. Other
integers (ids, labels, counts, order) must be identical."""


RANKING_GAP = 1e-4
"""Scores closer than this may swap their rows: the reference's own float32 scores are off by up to 1.5e-5 after six
recurrent frames."""


@dataclass(frozen=True)
class Divergence:
    """How far one tensor of one frame differs: relative L2 error for floats, share of unequal entries otherwise."""

    frame: int
    submodule: str
    tensor: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


@dataclass(frozen=True)
class ParityReport:
    """Every comparison of one check, in execution order."""

    sessions: tuple[str, str]
    frames: int
    comparisons: tuple[Divergence, ...]

    @property
    def worst(self) -> Divergence:
        return max(self.comparisons, key=lambda c: c.error / c.tolerance if c.tolerance else np.inf * (c.error > 0))

    def summary(self) -> dict[str, Any]:
        """JSON-ready outcome for the bundle."""
        return {"sessions": list(self.sessions), "frames": self.frames, "worst": asdict(self.worst)}

    def require(self) -> None:
        """Raise CheckFailed naming the first diverged frame, submodule and tensor, if any."""
        for c in self.comparisons:
            if not c.passed:
                raise CheckFailed(
                    f"{' and '.join(self.sessions)} diverge first at frame {c.frame}, submodule {c.submodule!r}, "
                    f"tensor {c.tensor!r}: error {c.error:.3g}, tolerance {c.tolerance:.3g}"
                )


def check_parity(
    bundle: Bundle, reference: Session, candidate: Session, frames: Sequence[Mapping[str, np.ndarray]]
) -> ParityReport:
    """Run both sessions over `frames`; both must offer the bundle's wires as well as its results."""
    specs = {spec.name: spec for spec in (*bundle.results, *bundle.wires)}
    names = [tensor for submodule in bundle.submodules for tensor in submodule.outputs]
    runners = TemporalRunner(bundle, reference), TemporalRunner(bundle, candidate)
    comparisons = []
    for number, frame in enumerate(frames):
        expected, actual = (runner.step(frame, names) for runner in runners)
        for name in names:
            ranking = specs[name].ranked_by
            rows = slice(None) if ranking is None else settled_rows(expected[ranking], len(expected[name]))
            error, tolerance = difference(expected[name][rows], actual[name][rows])
            comparisons.append(Divergence(number, bundle.producer(name), name, error, tolerance))
    return ParityReport((reference.name, candidate.name), len(frames), tuple(comparisons))


def settled_rows(scores: np.ndarray, rows: int) -> np.ndarray:
    """Which of `rows` rows, sorted by descending `scores`, no rounding can move: bool [rows].

    Rows beyond the scores (the ego, behind the ranked agents) do not move.
    """
    near = np.abs(np.diff(scores)) < RANKING_GAP
    moves = np.zeros(rows, bool)
    count = min(rows, len(scores))
    moves[:count] |= np.append(near, False)[:count]
    moves[1:count] |= near[: count - 1]
    return ~moves


def difference(expected: np.ndarray, actual: np.ndarray) -> tuple[float, float]:
    """(error, tolerance): relative L2 error for floats, share of unequal entries otherwise.

    A non-finite value that is not the same in both is an infinite error.
    """
    if expected.dtype.kind != "f":
        return float(np.mean(expected != actual)) if expected.size else 0.0, GRID_FLIPS if expected.ndim >= 3 else 0.0
    if not (np.isfinite(expected).all() and np.isfinite(actual).all()):
        return 0.0 if np.array_equal(expected, actual, equal_nan=True) else float("inf"), FLOAT_TOLERANCE
    scale = float(np.linalg.norm(expected.astype(np.float64)))
    error = float(np.linalg.norm(expected.astype(np.float64) - actual))
    return error / scale if scale else error, FLOAT_TOLERANCE
