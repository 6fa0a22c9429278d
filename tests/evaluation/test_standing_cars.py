"""Detection and tracking of a scene made by hand: what is planted moves the figures by what one can tell beforehand."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")

import plugins.tracking.official
from plugins.tracking.evaluation import DETECTION, TRACKING
from plugins.tracking.judged import judged_boxes, missed_objects
from plugins.tracking.submission import global_boxes
from tests.evaluation.golden_results import CLASSES
from tests.evaluation.judging import figures_of, judge, measure, result_of, truth_of
from tests.evaluation.scenes import Thing, frame_at, scene_with
from toolkit.data.ground_truth import AnnotatedFrame, GroundTruth
from toolkit.errors import InputError
from toolkit.evaluation.metric import Metric, Verdict
from toolkit.runtime.results import Detections, FrameResult, MotionModes, TrackedBox

METRICS = pytest.mark.parametrize("metric", [DETECTION, TRACKING], ids=lambda metric: metric.name)
CARS = [Thing(number, x=6.0 * number - 20, y=10.0) for number in range(5)]
"""Beside the ego, none within 4 m of another."""


def seen_frame(seconds: float, things: Sequence[Thing] = CARS) -> AnnotatedFrame:
    """The ego stands. The things have been hit by the LiDAR, and are parked."""
    frame = frame_at(seconds, things)
    assert frame.objects is not None
    parked, points = ("vehicle.parked",) * len(things), np.ones(len(things), np.int64)
    return replace(frame, objects=replace(frame.objects, attribute=parked, lidar_points=points))


TRUTH = truth_of(scene_with([seen_frame(0.5 * step) for step in range(6)]))


def perfect(frame: AnnotatedFrame, *, shift: float = 0.0) -> FrameResult:
    """What is there, `shift` metres too far to the right, each track by its number."""
    objects = frame.objects
    assert objects is not None
    center = objects.center + np.array([shift, 0, 0])
    boxes = np.concatenate((center, objects.size, objects.heading[:, None], objects.velocity), -1)
    labels = np.array([CLASSES.index(label) for label in objects.label], np.int32)
    detections = Detections(CLASSES, labels, np.full(len(labels), 0.9, np.float32), boxes.astype(np.float32))
    return result_of(frame.token, boxes=tracked(detections), detections=detections)


def tracked(detections: Detections) -> tuple[TrackedBox, ...]:
    """Tracks of the detections, numbered in their order, with a forecast of the first alone."""
    motion = MotionModes(np.zeros((2, 3, 2), np.float32), np.array([1.0, 0.0], np.float32), 0.5)
    return tuple(
        TrackedBox(
            track_id=row,
            label=detections.classes[label],
            score=float(score),
            center=(box[0], box[1], box[2]),
            size=(box[3], box[4], box[5]),
            heading=box[6],
            velocity=(box[7], box[8]),
            motion=None if row else motion,
        )
        for row, (label, score, box) in enumerate(
            zip(detections.labels, detections.scores, detections.boxes.tolist(), strict=True)
        )
    )


def frames_of(truth: GroundTruth) -> list[AnnotatedFrame]:
    return [frame for scene in truth.scenes for frame in scene.frames]


def judged(metric: Metric, results: Sequence[FrameResult], truth: GroundTruth = TRUTH) -> Verdict:
    return judge(metric, truth, results)[0]


def figures(metric: Metric, results: Sequence[FrameResult], truth: GroundTruth = TRUTH) -> dict[str, float]:
    return figures_of(judged(metric, results, truth))


def test_the_truth_is_perfect() -> None:
    results = [perfect(frame) for frame in frames_of(TRUTH)]
    detection, tracking = figures(DETECTION, results), figures(TRACKING, results)
    assert detection["AP/car"] == pytest.approx(1)
    for name in ("ATE", "ASE", "AOE", "AVE", "AAE"):
        assert detection[f"{name}/car"] == pytest.approx(0, abs=1e-5), name
    assert (tracking["AMOTA/car"], tracking["recall"], tracking["MOTA"], tracking["mt"]) == (1, 1, 1, 5)
    assert [tracking[name] for name in ("ids", "frag", "fp", "fn", "ml")] == [0] * 5


def test_boxes_one_metre_aside_are_found_within_two() -> None:
    """At two of the four distances; the limit itself is too far."""
    results = [perfect(frame, shift=1.001) for frame in frames_of(TRUTH)]
    detection, tracking = figures(DETECTION, results), figures(TRACKING, results)
    assert detection["AP/car"] == pytest.approx(0.5)
    assert detection["ATE/car"] == pytest.approx(1.001, abs=1e-5)
    assert tracking["MOTP/car"] == pytest.approx(1.001, abs=1e-5)
    assert tracking["AMOTA/car"] == 1


def test_two_tracks_that_trade_places_are_two_switches() -> None:
    first, *others = frames_of(TRUTH)
    results = [perfect(frame) for frame in others]
    one, two, *rest = perfect(first).boxes
    swapped = (replace(one, track_id=two.track_id), replace(two, track_id=one.track_id), *rest)
    tracking = figures(TRACKING, [replace(perfect(first), boxes=swapped), *results])
    assert (tracking["ids"], tracking["ids/car"]) == (2, 2)
    assert tracking["MOTA/car"] == pytest.approx(1 - 2 / 30)


def test_ids_as_if_nothing_were_tracked_are_noted() -> None:
    """One for all boxes of a scene, or another in each frame."""
    results = [perfect(frame) for frame in frames_of(TRUTH)]
    alike = [replace(each, boxes=tuple(replace(box, track_id=7) for box in each.boxes)) for each in results]
    (note,) = notes(TRACKING, alike)
    assert note == "all boxes of a scene have one track id, as if tracking were off: scene"
    (note,) = notes(TRACKING, [renumbered(each, first=10 * i) for i, each in enumerate(results)])
    assert note == "no track is longer than a frame, as if state were not fed back"
    assert notes(TRACKING, results) == notes(TRACKING, results[:1]) == []


def renumbered(result: FrameResult, first: int) -> FrameResult:
    """Tracks with ids from `first` on."""
    boxes = enumerate(result.boxes, first)
    return replace(result, boxes=tuple(replace(box, track_id=number) for number, box in boxes))


def notes(metric: Metric, results: Sequence[FrameResult]) -> list[str]:
    """All but that there are cars alone."""
    return [note for note in judged(metric, results).notes if not note.startswith("no object of")]


@METRICS
def test_that_no_frame_has_a_box_is_noted(metric: Metric) -> None:
    nothing = Detections(CLASSES, np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros((0, 9), np.float32))
    results = [replace(perfect(frame), boxes=(), detections=nothing) for frame in frames_of(TRUTH)]
    (note,) = notes(metric, results)
    assert note.startswith("no frame has any box; see whether")


def test_what_is_not_seen_is_missed_and_ranked() -> None:
    """The third frame lacks two detections; in the fourth one is not sure enough."""
    results = [perfect(frame) for frame in frames_of(TRUTH)]
    third, fourth = (results[i].detections for i in (2, 3))
    assert third is not None
    assert fourth is not None
    fewer = Detections(CLASSES, third.labels[:3], third.scores[:3], third.boxes[:3])
    results[2] = replace(results[2], detections=fewer, boxes=tracked(fewer))
    unsure = fourth.scores.copy()
    unsure[-1] = 0.2
    results[3] = replace(results[3], detections=replace(fourth, scores=unsure))
    (ranking,) = judged(DETECTION, results).rankings
    assert list(ranking.badness.values()) == [0, 0, 2, 1, 0, 0]
    assert figures(TRACKING, results)["fn"] == 0, "holes in a track are filled"


def test_a_detection_stands_for_one_object() -> None:
    """Two cars 2 m apart, one detection between them."""
    frame = seen_frame(0, [Thing(0, 10, 5), Thing(1, 10, 7)])
    box = np.array([(6.0 - 12.0, 9.0, -1.0, 2, 4, 2, 0, 0, 0)], np.float32)
    assert frame.objects is not None
    found = Detections(("car",), np.zeros(1, np.int32), np.ones(1, np.float32), box)
    assert missed_objects(judged_boxes("scene", frame, frame.objects, global_boxes(found, frame))) == 1


@METRICS
def test_frames_without_results_are_neither_found_nor_missed(metric: Metric) -> None:
    """What is there is judged alone: still perfect."""
    results = [perfect(frame) for frame in frames_of(TRUTH)]
    values = figures(metric, [results[0], *results[2:4]])
    assert values["AP/car" if metric is DETECTION else "AMOTA/car"] == pytest.approx(1)


@METRICS
def test_nothing_is_found(metric: Metric) -> None:
    nothing = Detections(CLASSES, np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros((0, 9), np.float32))
    verdict = judged(metric, [replace(perfect(f), boxes=(), detections=nothing) for f in frames_of(TRUTH)])
    values = figures_of(verdict)
    assert values["mAP" if metric is DETECTION else "AMOTA"] == 0


@METRICS
def test_a_test_split_is_exported_but_not_judged(metric: Metric, tmp_path: Path) -> None:
    seen, bare = frames_of(TRUTH)[0], frame_at(0.5, None)
    result = replace(perfect(seen), frame=f"00000_{bare.token}")
    measured, _ = measure(metric, truth_of(scene_with([bare])), [result])
    assert metric.export is not None
    (path,) = metric.export(measured, tmp_path)
    assert len(json.loads(path.read_text())["results"][bare.token]) == 5
    verdict = metric.compute(measured, tmp_path)
    assert (verdict.figures, verdict.notes) == ((), ["annotations: missing in 1 frame, first frame0.5"])


@METRICS
def test_classes_that_are_not_there_are_named(metric: Metric) -> None:
    notes = judged(metric, [perfect(frame) for frame in frames_of(TRUTH)]).notes
    assert len(notes) == 1
    assert notes[0].startswith("no object of ")
    assert "pedestrian" in notes[0]


@METRICS
def test_classes_of_other_data_sets_are_left_out(metric: Metric, tmp_path: Path) -> None:
    """A model that knows five cars as vans says nothing that nuScenes could judge."""
    results = []
    for frame in frames_of(TRUTH):
        detections = perfect(frame).detections
        assert detections is not None
        vans = Detections(("van",), np.zeros(5, np.int32), detections.scores, detections.boxes)
        results.append(replace(perfect(frame), detections=vans, boxes=tracked(vans)))
    measured, _ = measure(metric, TRUTH, results)
    assert "none of nuScenes' classes, and so left out: van" in metric.compute(measured, tmp_path).notes
    assert metric.export is not None
    (path,) = metric.export(measured, tmp_path)
    assert set(map(len, json.loads(path.read_text())["results"].values())) == {0}


def test_without_attributes_their_error_is_one() -> None:
    """Info files do not say what objects do."""
    unknown = [
        replace(frame, objects=frame.objects and replace(frame.objects, attribute=("",) * 5))
        for frame in frames_of(TRUTH)
    ]
    verdict = judged(DETECTION, [perfect(frame) for frame in unknown], truth_of(scene_with(unknown)))
    assert figures_of(verdict)["AAE/car"] == 1
    assert verdict.notes[-1].startswith("the data set knows no attributes")


def test_forecasts_are_written_where_there_are_any(tmp_path: Path) -> None:
    """Logarithms of probabilities, that of 0 as well."""
    frame = frames_of(TRUTH)[0]
    assert TRACKING.export is not None
    (path,) = TRACKING.export(measure(TRACKING, TRUTH, [perfect(frame)])[0], tmp_path)
    first, *others = json.loads(path.read_text())["results"][frame.token]
    assert np.shape(first["predict_traj"]) == (2, 3, 2)
    assert first["predict_traj_score"] == pytest.approx([0, np.log(1e-6)])
    assert not any("predict_traj" in entry for entry in others)


@METRICS
@pytest.mark.parametrize("lost", ["nuscenes.eval.common.config", "motmetrics"])
def test_a_missing_devkit_is_said(metric: Metric, lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The devkit takes missing motmetrics for a reason to skip its own tests."""
    owners = (plugins.tracking.official.__name__, "nuscenes.eval")
    for name in [name for name in sys.modules if name.startswith(owners)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, lost, None)
    message = (
        rf"^{metric.name} needs nuscenes-devkit, which cannot be imported.*pip install 'uniad-toolkit\[nuscenes\]'$"
    )
    with pytest.raises(InputError, match=message):
        judged(metric, [perfect(frame) for frame in frames_of(TRUTH)])


@METRICS
def test_the_devkit_says_nothing(metric: Metric, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        judged(metric, [perfect(frame) for frame in frames_of(TRUTH)])
        assert list(warnings.filters) == before
    assert not caught
    assert capfd.readouterr() == ("", "")


def test_two_tracks_of_one_number_in_a_frame() -> None:
    """No tracker of ours gives such; whatever comes of it is a figure."""
    results = [perfect(frame) for frame in frames_of(TRUTH)]
    doubled = [replace(result, boxes=tuple(replace(box, track_id=0) for box in result.boxes)) for result in results]
    assert "MOTA" in figures(TRACKING, doubled)
