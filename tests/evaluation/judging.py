"""What a metric says about results, as `evaluate` asks it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.evaluation.scenes import frame_at, scene_with
from toolkit.data.frames import Command
from toolkit.data.ground_truth import AnnotatedScene, Gap, GroundTruth
from toolkit.evaluation.metric import JudgedFrame, Measured, Metric, Verdict
from toolkit.runtime.results import FrameResult


def result_of(token: str, **parts: Any) -> FrameResult:
    """A frame's result of which only these parts matter."""
    return FrameResult(frame=f"0000_{token}", scene="scene", timestamp=0.0, command=Command.STRAIGHT, **parts)


def truth_of(*scenes: AnnotatedScene) -> GroundTruth:
    """Scenes without a map."""
    return GroundTruth(scenes, lambda location, layers: None)


def measure(metric: Metric, truth: GroundTruth, results: Iterable[FrameResult]) -> tuple[Measured, list[Gap]]:
    """What the metric measures in the frames with results that it can judge, and why it cannot judge the others."""
    measuring = metric.open(truth)
    by_token = {result.frame.partition("_")[2]: result for result in results}
    places, values, gaps = [], [], []
    for scene in truth.scenes:
        for index, frame in enumerate(scene.frames):
            if frame.token in by_token:
                value = measuring(JudgedFrame(by_token[frame.token], scene, index))
                if isinstance(value, Gap):
                    gaps.append(value)
                else:
                    places.append((scene, index))
                    values.append(value)
    return Measured(truth, places, values), gaps


def judge(metric: Metric, truth: GroundTruth, results: Iterable[FrameResult]) -> tuple[Verdict, list[Gap]]:
    """What the metric says of the frames that it can judge, and why it cannot judge the others."""
    measured, gaps = measure(metric, truth, results)
    return metric.compute(measured, Path()), gaps


def verdict_on(metric: Metric, values: Sequence[Any]) -> Verdict:
    """What the metric says of values that were measured in frames of no matter which names."""
    scene = scene_with([frame_at(0.5 * i, []) for i in range(len(values))])
    return metric.compute(Measured(truth_of(scene), [(scene, i) for i in range(len(values))], values), Path())


def figures_of(verdict: Verdict) -> dict[str, float]:
    """Values by name; every figure says what it is."""
    assert all(figure.protocol and figure.reduction for figure in verdict.figures)
    values = {figure.name: figure.value for figure in verdict.figures}
    assert len(values) == len(verdict.figures)
    return values
