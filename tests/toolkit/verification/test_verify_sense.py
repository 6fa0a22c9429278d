"""Bounds of sense, which reduced precision must keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from toolkit.specs import Tolerance
from toolkit.verification.comparison import Comparison
from toolkit.verification.decisions import Decisions, OccupancyDecisions, PlanDecisions, TrackDecisions
from toolkit.verification.metrics import measure
from toolkit.verification.sense import sense_failures

TRACKS = TrackDecisions(expected=4, actual=5, matched=4, relabelled=1, reordered=2, moved=0.2)
OCCUPANCY = OccupancyDecisions(expected=50, actual=52, flipped=20, cells=1000)
PLAN = PlanDecisions(expected=10.0, actual=10.1, moved=0.09)
DECISIONS = Decisions(3, TRACKS, OCCUPANCY, PLAN)


def bev(error: float) -> Comparison:
    """The BEV of a frame with a relative error."""
    return Comparison(
        3, "bev_encoder", "bev", measure(np.ones(4), np.full(4, 1 + error)), Tolerance(norm=1e-4, reduced=2e-3)
    )


def test_small_differences_make_sense() -> None:
    """Labels, ranks and one object more may differ, and errors exceed the tolerances of FP32."""
    assert sense_failures(DECISIONS, [bev(1e-3)]) == []
    assert sense_failures(Decisions(0, None, None, None), []) == []


@pytest.mark.parametrize(
    ("decisions", "error", "fault"),
    [
        (DECISIONS, 0.01, "bev: relative error 0.01 (bound 0.002)"),
        (DECISIONS, np.nan, "bev: relative error inf (bound 0.002)"),
        (replace(DECISIONS, tracks=replace(TRACKS, moved=0.5)), 0.0, "objects: one moves by 0.5 m (bound 0.3)"),
        (replace(DECISIONS, plan=replace(PLAN, moved=0.2)), 0.0, "plan: a point moves by 0.2 m (bound 0.1)"),
        (replace(DECISIONS, plan=replace(PLAN, moved=np.nan)), 0.0, "plan: a point moves by nan m (bound 0.1)"),
        (
            replace(DECISIONS, occupancy=replace(OCCUPANCY, flipped=40)),
            0.0,
            "occupancy: 4.0% of the cells differ (bound 0.03)",
        ),
    ],
)
def test_large_ones_do_not(decisions: Decisions, error: float, fault: str) -> None:
    [failure] = sense_failures(decisions, [bev(error)])
    assert f"{failure.gate}: {failure.reason}" == fault
    assert failure.frame == 3
