"""The example of the documentation: a metric in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.evaluation.judging import figures_of, judge, result_of, truth_of
from tests.evaluation.scenes import frame_at, scene_with
from toolkit.data.ground_truth import Gap
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.results import PlanResult

EXAMPLE = Path(__file__).parents[3] / "docs/examples/plan_comfort.py"


def test_it_judges_beside_the_toolkit_s_own() -> None:
    """One plan goes ahead at 2 m a step; the other stands until its last step, and leaps a metre: 4 m/s²."""
    metrics = {metric.name: metric for metric in PluginManager.load([EXAMPLE]).metrics()}
    assert {"comfort", "planning"} <= metrics.keys()
    steady = np.arange(1, 7)[:, None] * np.array([0, 2], np.float32)
    leaping, point = np.zeros((6, 2), np.float32), np.zeros((1, 2), np.float32)
    leaping[-1, 1] = 1
    scene = scene_with([frame_at(0.5 * i, None) for i in range(3)])
    plans = zip(scene.frames, (steady.astype(np.float32), leaping, point), strict=True)
    results = [result_of(frame.token, plan=PlanResult(points, 0.5)) for frame, points in plans]
    verdict, gaps = judge(metrics["comfort"], truth_of(scene), results)
    assert figures_of(verdict) == {"acceleration": 2.0, "harsh": 50.0}
    assert verdict.rankings[0].badness == {"frame0": 0.0, "frame0.5": 4.0}
    assert gaps == [Gap("frame1", "a plan of two steps")]
