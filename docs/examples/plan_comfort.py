"""A plugin in one file: a metric of how hard plans push the passengers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from toolkit.data.ground_truth import Gap
from toolkit.evaluation.metric import Figure, JudgedFrame, Measured, Metric, Ranking, Verdict
from toolkit.hookspecs import hookimpl

HARSH = 3.0
"""Metres per second squared."""


def measure(frame: JudgedFrame) -> float | Gap:
    """The largest acceleration in a plan, which begins at the origin (m/s²)."""
    plan = frame.result.plan
    if plan is None or len(plan.points) < 2:
        return Gap(frame.annotated.token, "a plan of two steps")
    points = np.concatenate((np.zeros((1, 2)), plan.points))
    accelerations = np.diff(points, n=2, axis=0) / plan.step_seconds**2
    return float(np.linalg.norm(accelerations, axis=-1).max())


def compute(measured: Measured, folder: Path) -> Verdict:
    """The mean of the largest accelerations, the share of plans that are harsh, and which are the harshest."""
    largest = np.array(measured.values)
    tokens = [scene.frames[index].token for scene, index in measured.frames]
    return Verdict(
        figures=[
            Figure("acceleration", float(largest.mean()), "m/s²", "largest of a plan", "mean over samples", False),
            Figure("harsh", float((largest > HARSH).mean()) * 100, "%", f"above {HARSH:g} m/s²", "of samples", False),
        ],
        rankings=[Ranking("acceleration", "acceleration", "m/s²", dict(zip(tokens, measured.values, strict=True)))],
    )


METRIC = Metric(
    name="comfort",
    meaning="how hard plans accelerate, brake and turn",
    needs=("plan",),
    truth=(),
    open=lambda truth: measure,
    compute=compute,
)


@hookimpl
def uniad_metrics() -> Sequence[Metric]:
    """How hard plans push."""
    return (METRIC,)
