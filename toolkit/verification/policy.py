"""How far two implementations of one network may differ where a tensor's spec does not say (docs/verification.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from toolkit.quantization.scheme import QuantizationMode
from toolkit.specs import TensorSpec, Tolerance

FULL_PRECISION = "fp32"
"""That of the network as it was trained, and of the tolerances here."""

GRID_DIMENSIONS = 3
"""Integers or booleans with at least so many dimensions are grids of thresholded cells, not decisions of their own."""


@dataclass(frozen=True)
class Policy:
    """Bounds for one precision. Where sense judges (`by_sense`), they are for comparison.

    A tensor whose spec states none falls under its kind: `floats`, `grids` (integers and booleans of three or more
    dimensions) or `decisions` (all other integers and booleans). Rows that are ranked by score may trade places where
    their scores differ by less than `ranking_gap`.
    """

    precision: str
    floats: Tolerance
    grids: Tolerance
    decisions: Tolerance
    ranking_gap: float

    def tolerance(self, spec: TensorSpec) -> Tolerance:
        """The bounds of one tensor."""
        if spec.tolerance is not None:
            return spec.tolerance
        if spec.dtype.startswith("float"):
            return self.floats
        return self.grids if len(spec.shape) >= GRID_DIMENSIONS else self.decisions


def by_sense(precision: str) -> bool:
    """Whether not digits but gates and bounds of sense judge (`toolkit.verification.sense`)."""
    return precision != FULL_PRECISION


def by_drive(precision: str) -> bool:
    """Whether the gates of quantization judge, over all frames together (`toolkit.quantization.gates`)."""
    return precision in list(QuantizationMode)


FP32 = Policy(
    precision=FULL_PRECISION,
    floats=Tolerance(norm=1e-3),
    grids=Tolerance(share=2e-3),
    decisions=Tolerance(share=0.0),
    ranking_gap=2e-3,
)
"""Same arithmetic, another order of the sums. Where each figure comes from: docs/verification.md."""


def policy_of(precision: str) -> Policy:
    """The policy for a session that computes in `precision`, such as "fp16"."""
    return replace(FP32, precision=precision)
