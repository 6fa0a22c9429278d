"""Evaluations made by hand."""

from __future__ import annotations

import math

from toolkit.data.ground_truth import GapCount
from toolkit.evaluation.evaluation_file import Evaluation, found
from toolkit.evaluation.metric import Figure, Plot, PlotKind, Ranking, Series, Verdict


def figure(name: str, value: float, *, higher_is_better: bool = False, unit: str = "m") -> Figure:
    """A figure of a made-up protocol."""
    return Figure(name, value, unit, "by hand", "mean over samples", higher_is_better)


VERDICT = Verdict(
    figures=[figure("L2@1s", 0.5), figure("L2@3s", 1.5), figure("hits", math.nan, higher_is_better=True, unit="%")],
    plots=[
        Plot("error", "Error over time", "s", "m", [Series("L2", [1.0, 2.0, 3.0], [0.5, math.nan, 1.5])]),
        Plot("shares", "By class", "", "%", [Series("hits", ["car", "bus"], [50.0, 25.0])], PlotKind.BARS),
    ],
    rankings=[Ranking("error", "plan error", "m", {"a": 0.5, "b": 2.5, "c": math.nan, "d": 2.5})],
    notes=["buses were not judged: there was none"],
)


def evaluation(verdict: Verdict = VERDICT, **others: str) -> Evaluation:
    """Of one metric, "planning"."""
    return Evaluation(
        toolkit="uniad-toolkit 1.0",
        data="nuscenes:data?version=v1.0-mini",
        bundle="d" * 64,
        session="onnxruntime",
        precision=others.get("precision", "fp32"),
        refinements=("--smooth",),
        frames=8,
        missing=(GapCount("results", 2, "first"),),
        metrics=(found("planning", 7, verdict, [GapCount("annotations", 1, "second")]),),
    )
