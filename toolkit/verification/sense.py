"""Bounds of sense for reduced precision: small enough that a driver would not notice (docs/precision.md).

Digits are no measure there: a score near a threshold falls on either side of it, and from then on rows stand for other
things.
"""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.verification.comparison import Comparison
from toolkit.verification.decisions import Decisions
from toolkit.verification.gates import GateFailure

BOX_DISTANCE, PLAN_DISTANCE = 0.3, 0.1
"""Metres that a matched object, and a point of the plan, may move."""
FLIPPED_CELLS = 0.03
"""Share of occupancy cells that may differ in a frame."""


def sense_failures(decisions: Decisions, comparisons: Sequence[Comparison]) -> list[GateFailure]:
    """What of one frame exceeds its bound; the gates of every precision are apart (`toolkit.verification.gates`)."""
    measured = [
        (c.tensor, "relative error {:.3g}", c.errors.norm, bound)
        for c in comparisons
        if (bound := c.tolerance.reduced) is not None
    ]
    if tracks := decisions.tracks:
        measured.append(("objects", "one moves by {:.3g} m", tracks.moved, BOX_DISTANCE))
    if plan := decisions.plan:
        measured.append(("plan", "a point moves by {:.3g} m", plan.moved, PLAN_DISTANCE))
    if cells := decisions.occupancy:
        measured.append(("occupancy", "{:.1%} of the cells differ", cells.flipped / cells.cells, FLIPPED_CELLS))
    return [
        GateFailure(decisions.frame, gate, f"{reason.format(error)} (bound {bound:g})")
        for gate, reason, error, bound in measured
        if not error <= bound
    ]
