"""The outcome of a verification: what was compared, what failed, and where it comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from toolkit.errors import CheckFailed
from toolkit.verification.bisection import Diagnosis
from toolkit.verification.comparison import Comparison
from toolkit.verification.decisions import Decisions
from toolkit.verification.gates import GateFailure
from toolkit.verification.policy import FULL_PRECISION, by_sense


@dataclass(frozen=True)
class Report:
    """One session against the reference. `comparisons` run frame by frame in execution order.

    In a precision that sense judges (`by_sense`), they may exceed their bounds, and gates are what can fail.
    """

    reference: str
    candidate: str
    precision: str
    frames: int
    comparisons: tuple[Comparison, ...]
    decisions: tuple[Decisions, ...]
    gate_failures: tuple[GateFailure, ...]
    diagnosis: Diagnosis | None

    @property
    def passed(self) -> bool:
        return self.first_divergence is None and not self.gate_failures

    @property
    def first_divergence(self) -> Comparison | None:
        """The first comparison that fails, if any; none where sense judges."""
        return None if by_sense(self.precision) else next((c for c in self.comparisons if not c.passed), None)

    @property
    def worst(self) -> Comparison:
        """The comparison closest to its bound, or furthest beyond it."""
        return max(self.comparisons, key=_badness)

    def worst_of_each(self) -> list[Comparison]:
        """The worst frame of every tensor, in execution order."""
        return worst_of_each(self.comparisons)

    def failure(self) -> str | None:
        """What is wrong, on one line; None if nothing is."""
        first, parts = self.first_divergence, []
        if first is not None:
            parts.append(
                f"{self.candidate} diverges from {self.reference} first at frame {first.frame}, submodule "
                f"{first.submodule!r}, tensor {first.tensor!r}: {MEASURES[first.measure]} {first.error:.3g}, "
                f"tolerance {first.bound:.3g}"
            )
        if self.diagnosis is not None:
            parts.append(str(self.diagnosis))
        if self.gate_failures:
            gate = self.gate_failures[0]
            parts.append(f"{self.candidate} fails the gate on {gate.gate} at frame {gate.frame}: {gate.reason}")
        return "; ".join(parts) or None

    def require(self) -> None:
        """Raise CheckFailed if anything is wrong."""
        failure = self.failure()
        if failure is not None:
            raise CheckFailed(failure)

    def summary(self) -> dict[str, Any]:
        """JSON-ready outcome in short, for the bundle."""
        w = self.worst
        worst = {"frame": w.frame, "submodule": w.submodule, "tensor": w.tensor, "measure": w.measure}
        return {
            "sessions": [self.reference, self.candidate],
            "precision": self.precision,
            "frames": self.frames,
            "worst": worst | {"error": w.error, "tolerance": w.bound},
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready outcome in full; a number that is not finite becomes None."""
        plain: dict[str, Any] = jsonable({
            "reference": self.reference,
            "candidate": self.candidate,
            "precision": self.precision,
            "frames": self.frames,
            "passed": self.passed,
            "failure": self.failure(),
            "first_divergence": _comparison_values(self.first_divergence),
            "diagnosis": self.diagnosis and asdict(self.diagnosis) | {"origin": self.diagnosis.origin.value},
            "gate_failures": [asdict(failure) for failure in self.gate_failures],
            "decisions": [asdict(decisions) for decisions in self.decisions],
            "comparisons": [_comparison_values(c) for c in self.comparisons],
        })  # fmt: skip
        return plain


def empty_report(reference: str, candidate: str) -> Report:
    """That of a session which was not run."""
    return Report(reference, candidate, FULL_PRECISION, 0, (), (), (), None)


MEASURES = {"norm": "relative error", "largest": "largest error", "share": "share of differing entries"}
"""What the bounded measures are called in messages."""


def worst_of_each(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The worst frame of every tensor, in execution order."""
    worst: dict[str, Comparison] = {}
    for c in comparisons:
        if c.tensor not in worst or _badness(c) > _badness(worst[c.tensor]):
            worst[c.tensor] = c
    return list(worst.values())


def _badness(comparison: Comparison) -> tuple[float, float]:
    return comparison.severity, comparison.errors.norm


def _comparison_values(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    return asdict(comparison) | {"passed": comparison.passed}


def jsonable(value: Any) -> Any:
    """A value as JSON knows it: a number that is not finite becomes None."""
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
