"""How much worse a quantized network may drive, by figures of an evaluation."""

from __future__ import annotations

import pytest

from toolkit.evaluation.evaluation_file import Evaluation, FoundFigure, MetricFindings
from toolkit.evaluation.metric import Loss, Metric, Verdict
from toolkit.quantization.driving import compare_driving

METRIC = Metric(
    name="route",
    meaning="",
    needs=(),
    truth=(),
    open=lambda truth: lambda frame: None,
    compute=lambda measured, folder: Verdict(),
    losses=(Loss("distance", share=0.02), Loss("hits", absolute=1.0)),
)


def evaluation(distance: float | None = 2.0, hits: float | None = 50.0) -> Evaluation:
    """The lower the distance the better, the more hits."""
    figures = (
        FoundFigure("route/distance", distance, "m", "", "", higher_is_better=False),
        FoundFigure("route/hits", hits, "%", "", "", higher_is_better=True),
    )
    found = MetricFindings("route", 1, figures, (), (), (), ())
    return Evaluation("1", "data", "bundle", "session", "fp32", (), 1, (), (found,))


def failures(after: Evaluation, before: Evaluation | None = None) -> list[str]:
    return [f.subject for f in compare_driving(before or evaluation(), after, [METRIC]) if not f.holds]


@pytest.mark.parametrize(
    ("after", "failed"),
    [
        (evaluation(distance=2.03), []),
        (evaluation(distance=2.05), ["route/distance"]),
        (evaluation(hits=49.5), []),
        (evaluation(hits=48.5), ["route/hits"]),
        (evaluation(distance=1.0, hits=90.0), []),
        (evaluation(hits=None), ["route/hits"]),
    ],
    ids=["a little farther", "too far", "fewer hits", "too few hits", "better", "nothing to judge any more"],
)
def test_figures_may_become_worse_by_so_much(after: Evaluation, failed: list[str]) -> None:
    assert failures(after) == failed


def test_what_could_not_be_judged_in_fp32_is_no_gate() -> None:
    assert failures(evaluation(), evaluation(distance=None, hits=None)) == []
