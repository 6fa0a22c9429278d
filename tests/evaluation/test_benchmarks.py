"""Detection and tracking by nuScenes' own evaluations: entries and figures of the reference."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")

from plugins.tracking.evaluation import DETECTION, TRACKING
from plugins.tracking.submission import tracks_of
from tests.evaluation.conftest import Located
from tests.evaluation.golden_results import CLASSES, golden_result
from tests.evaluation.judging import figures_of, judge, measure, truth_of
from toolkit.data.ground_truth import GroundTruth
from toolkit.evaluation.metric import Metric
from toolkit.runtime.result_reader import read_result
from toolkit.runtime.result_writer import write_result
from toolkit.runtime.results import FrameResult

METRICS = pytest.mark.parametrize("metric", [DETECTION, TRACKING], ids=lambda metric: metric.name)
ERRORS = {"trans_err": "ATE", "scale_err": "ASE", "orient_err": "AOE", "vel_err": "AVE", "attr_err": "AAE"}


@pytest.fixture(scope="module")
def results(golden_evaluation: Path, golden_frames: list[Located]) -> list[FrameResult]:
    outputs = dict(np.load(golden_evaluation / "network_outputs.npz"))
    return [golden_result(outputs, located) for located in golden_frames]


@pytest.fixture(scope="module")
def truth(golden_frames: list[Located]) -> GroundTruth:
    return truth_of(*{located.scene.name: located.scene for located in golden_frames}.values())


def close_to(value: float) -> Any:
    """Equal but for the order of sums."""
    return pytest.approx(value, abs=1e-7, nan_ok=True)


LAST_DIGIT = 4e-6
"""Of single precision at 32 to 64 m: the reference adds paths and centres in it, in another order."""


def assert_same_entries(found: Sequence[dict[str, Any]], wanted: Sequence[dict[str, Any]]) -> None:
    """Equal strings, whole numbers and counts; floats within 1e-6.

    A quaternion and its negative are the same rotation; which of them the reference writes depends on how often a yaw
    has gone around.
    """
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            if isinstance(value, str | int):
                assert (type(one[name]), one[name]) == (type(value), value)
            else:
                sign = np.sign(np.dot(one[name], value)) if name == "rotation" else 1
                noise = LAST_DIGIT if name == "predict_traj" else 1e-6
                np.testing.assert_allclose(sign * np.array(one[name]), value, rtol=0, atol=noise, err_msg=name)


@METRICS
def test_file_of_the_reference(
    golden_evaluation: Path, truth: GroundTruth, results: list[FrameResult], tmp_path: Path, metric: Metric
) -> None:
    """Every entry of every frame, in the same order."""
    assert metric.export is not None
    (path,) = metric.export(measure(metric, truth, results)[0], tmp_path)
    wanted = json.loads((golden_evaluation / "results" / path.name).read_text())
    found = json.loads(path.read_text())
    assert found["meta"] == wanted["meta"]
    assert list(found["results"]) == list(wanted["results"])
    for token, entries in wanted["results"].items():
        assert_same_entries(found["results"][token], entries)


@pytest.mark.slow
def test_detection_of_the_reference(golden_evaluation: Path, truth: GroundTruth, results: list[FrameResult]) -> None:
    """NDS, mAP, errors, each class: as the official evaluation of the official files."""
    verdict, _ = judge(DETECTION, truth, results)
    figures = figures_of(verdict)
    wanted = json.loads((golden_evaluation / "results/det_metrics_summary.json").read_text())
    assert figures["NDS"] == close_to(wanted["nd_score"])
    assert figures["mAP"] == close_to(wanted["mean_ap"])
    bars = {series.label: dict(zip(series.x, series.y, strict=True)) for series in verdict.plots[1].series}
    for key, name in ERRORS.items():
        assert figures[f"m{name}"] == close_to(wanted["tp_errors"][key])
    for label in CLASSES:
        assert figures[f"AP/{label}"] == close_to(wanted["mean_dist_aps"][label])
        for distance, ap in wanted["label_aps"][label].items():
            assert bars[f"{float(distance):g} m"][label] == close_to(ap)
        for key, name in ERRORS.items():
            error = wanted["label_tp_errors"][label][key]
            assert figures[f"{name}/{label}"] == close_to(math.nan if error is None else error)
    assert not verdict.notes


@pytest.mark.slow
def test_tracking_of_the_reference(golden_evaluation: Path, truth: GroundTruth, results: list[FrameResult]) -> None:
    """AMOTA, AMOTP and all others, over all classes and of each."""
    verdict, _ = judge(TRACKING, truth, results)
    (wanted,) = json.loads((golden_evaluation / "eval_metrics.json").read_text())["tracking"]
    for name, value in figures_of(verdict).items():
        kind, _, label = name.partition("/")
        stored = wanted["label_metrics"][kind.lower()][label] if label else wanted[kind.lower()]
        assert value == close_to(stored), name
    assert {"AMOTA", "AMOTP", "recall", "MOTA", "MOTP", "ids", "frag", "fp", "fn", "mt", "ml"} <= figures_of(
        verdict
    ).keys()
    assert not verdict.notes


def test_scores_survive_their_files(results: list[FrameResult], tmp_path: Path) -> None:
    """AMOTA counts from the score of a track on, and falls by a thousandth here if their last digits are lost."""
    for result in results:
        read = read_result(write_result(replace(result, detections=None), tmp_path))
        np.testing.assert_array_equal(tracks_of(read.boxes).boxes.scores, tracks_of(result.boxes).boxes.scores)
