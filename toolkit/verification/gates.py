"""Checks of plain sense that hold at every precision: a network can fail them while its average error looks small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.verification.comparison import Arrays, Comparison
from toolkit.verification.decisions import Decisions

FEW_CELLS = 2e-3
"""Share of occupied cells below which a frame counts as all but empty: so many may flip at their threshold."""
TRACK_SHARE, TRACK_SPARE = 0.1, 1
"""The numbers of reported objects may differ by this share of them, or by so many."""
PLAN_SHARE, PLAN_SPARE = 0.1, 0.5
"""The lengths of the planned paths may differ by this share of them, or by so many metres."""


@dataclass(frozen=True)
class GateFailure:
    """What about one frame makes no sense."""

    frame: int
    gate: str
    reason: str


def check_gates(
    decisions: Decisions, comparisons: Sequence[Comparison], outputs: Sequence[Arrays], names: Sequence[str]
) -> list[GateFailure]:
    """Failures of one frame: `outputs` are those of both sessions, `names` the sessions'."""
    failures = [GateFailure(decisions.frame, gate, reason) for gate, reason in _decision_failures(decisions)]
    return failures + finite_failures(decisions.frame, comparisons, outputs, names)


def finite_failures(
    frame: int, comparisons: Sequence[Comparison], outputs: Sequence[Arrays], names: Sequence[str]
) -> list[GateFailure]:
    """The gate on finite values alone, for each of the sessions."""
    failures = []
    for name, arrays in zip(names, outputs, strict=True):
        broken = [c.tensor for c in comparisons if not np.isfinite(arrays[c.tensor]).all()]
        if broken:
            more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
            reason = f"{name} gives non-finite values in {broken[0]!r}{more}"
            failures.append(GateFailure(frame, "finite values", reason))
    return failures


def _decision_failures(decisions: Decisions) -> list[tuple[str, str]]:
    failures = []
    if (cells := decisions.occupancy) and not cells.actual and cells.expected > FEW_CELLS * cells.cells:
        failures.append(("occupancy", f"empty, where {cells.expected} cells of the reference's are occupied"))
    if (tracks := decisions.tracks) and _apart(tracks.expected, tracks.actual, TRACK_SHARE, TRACK_SPARE):
        failures.append(("number of tracks", f"{tracks.actual} reported, the reference reports {tracks.expected}"))
    if (plan := decisions.plan) and _apart(plan.expected, plan.actual, PLAN_SHARE, PLAN_SPARE):
        failures.append(("plan length", f"{plan.actual:.2f} m, where the reference's is {plan.expected:.2f} m"))
    return failures


def _apart(expected: float, actual: float, share: float, spare: float) -> bool:
    """Whether two numbers differ by more than a share of the expected one and more than `spare`."""
    return math.isfinite(actual) and abs(actual - expected) > max(share * expected, spare)
