"""The metrics "detection" and "tracking": nuScenes' own evaluations, and the files that its benchmarks take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plugins.tracking.figures import (
    DETECTION_RULES,
    TRACKING_RULES,
    detection_figures,
    detection_plots,
    tracking_figures,
    tracking_plots,
)
from plugins.tracking.judged import JudgedBoxes, judged_boxes, missed_objects
from plugins.tracking.rules import RANGES
from plugins.tracking.submission import (
    GlobalBoxes,
    Tracks,
    detection_entries,
    global_boxes,
    track_boxes,
    track_entries,
    tracks_of,
    write_submission,
)
from toolkit.data.ground_truth import AnnotatedFrame, Gap, GroundTruth, counted
from toolkit.data.nuscenes.devkit import needed_by
from toolkit.evaluation.metric import JudgedFrame, Loss, Measure, Measured, Metric, Ranking, Verdict
from toolkit.runtime.results import Detections
from toolkit.text import shown

DETECTION_FILE = "results_nusc_det.json"
TRACKING_FILE = "results_nusc.json"
NOTHING_FOUND = "no frame has any box; see whether the weights are trained, and frames preprocessed as in training"


def open_detection(truth: GroundTruth) -> Measure:
    """Detections are kept as they are, in single precision."""

    def measure(frame: JudgedFrame) -> Detections | None:
        return frame.result.detections

    return measure


def open_tracking(truth: GroundTruth) -> Measure:
    """Tracked boxes are kept in single precision, with their forecasts."""

    def measure(frame: JudgedFrame) -> Tracks:
        return tracks_of(frame.result.boxes)

    return measure


def export_detection(measured: Measured, folder: Path) -> Sequence[Path]:
    """Write the file of the detection benchmark."""
    entries = ((frame.token, detection_entries(value, frame)) for frame, value in _frames(measured))
    write_submission(folder / DETECTION_FILE, entries)
    return (folder / DETECTION_FILE,)


def export_tracking(measured: Measured, folder: Path) -> Sequence[Path]:
    """Write the file of the tracking benchmark, with forecasts."""
    entries = ((frame.token, track_entries(value, frame)) for frame, value in _frames(measured))
    write_submission(folder / TRACKING_FILE, entries)
    return (folder / TRACKING_FILE,)


def compute_detection(measured: Measured, folder: Path) -> Verdict:
    """NDS, mAP, errors and curves, and in which frames objects are missed. Raises InputError without the devkit."""
    frames, notes = _judged(measured, global_boxes)
    notes += _strangers(value.classes for value in measured.values)
    if not frames:
        return Verdict(notes=notes)
    with needed_by("detection"):
        from plugins.tracking.official import evaluate_detection
    if not any(len(value.scores) for value in measured.values):
        notes.append(NOTHING_FOUND)
    metrics, curves = evaluate_detection(frames, DETECTION_RULES)
    present, absent = _present(frames, metrics.cfg.class_names)
    if absent:
        notes.append(f"no object of {', '.join(absent)}: by nuScenes' rules an AP of 0 and errors of 1")
    if not any(name for frame in frames for name in frame.true.attribute):
        notes.append("the data set knows no attributes: by nuScenes' rules an mAAE of 1, so that NDS loses up to 0.1")
    missed = {frame.token: float(missed_objects(frame)) for frame in frames}
    return Verdict(
        figures=detection_figures(metrics),
        plots=detection_plots(metrics, curves, present),
        rankings=[Ranking("missed", "missed objects", "objects", missed)],
        notes=notes,
    )


def compute_tracking(measured: Measured, folder: Path) -> Verdict:
    """AMOTA, AMOTP, and the figures of the score at which MOTA is best. Raises InputError without the devkit."""
    frames, notes = _judged(measured, track_boxes)
    notes += _strangers(value.boxes.classes for value in measured.values)
    if not frames:
        return Verdict(notes=notes)
    with needed_by("tracking"):
        from plugins.tracking.official import evaluate_tracking
    notes += _odd_identities(measured)
    metrics, curves = evaluate_tracking(frames, TRACKING_RULES)
    present, absent = _present(frames, metrics.class_names)
    if absent:
        notes.append(f"no object of {', '.join(absent)}: by nuScenes' rules left out of means over classes")
    return Verdict(figures=tracking_figures(metrics), plots=tracking_plots(curves, present), notes=notes)


DETECTION = Metric(
    name="detection",
    meaning="boxes of single frames against objects, by nuScenes' detection benchmark",
    needs=("detections",),
    truth=("annotations",),
    open=open_detection,
    compute=compute_detection,
    export=export_detection,
    losses=(Loss("NDS", absolute=0.01),),
)
TRACKING = Metric(
    name="tracking",
    meaning="tracked boxes against objects, by nuScenes' tracking benchmark",
    needs=("boxes",),
    truth=("annotations",),
    open=open_tracking,
    compute=compute_tracking,
    export=export_tracking,
)


def _frames(measured: Measured) -> Iterator[tuple[AnnotatedFrame, Any]]:
    for (scene, index), value in zip(measured.frames, measured.values, strict=True):
        yield scene.frames[index], value


def _judged(
    measured: Measured, boxes_in: Callable[[Any, AnnotatedFrame], GlobalBoxes]
) -> tuple[list[JudgedBoxes], list[str]]:
    """The frames with annotations, and what is to be said about the others."""
    frames, gaps = [], []
    for (scene, index), value in zip(measured.frames, measured.values, strict=True):
        frame = scene.frames[index]
        if frame.objects is None:
            gaps.append(Gap(frame.token, "annotations"))
        else:
            frames.append(judged_boxes(scene.name, frame, frame.objects, boxes_in(value, frame)))
    return frames, [str(gap) for gap in counted(gaps)]


def _present(frames: Sequence[JudgedBoxes], labels: Iterable[str]) -> tuple[list[str], list[str]]:
    """Of which of these classes there are objects, and of which there are none."""
    found = {label for frame in frames for label in frame.true.label}
    return [name for name in labels if name in found], [name for name in labels if name not in found]


def _odd_identities(measured: Measured) -> list[str]:
    """What is to be said where track ids are as if nothing were tracked."""
    scenes: dict[str, list[NDArray[np.int64]]] = defaultdict(list)
    for (scene, _), value in zip(measured.frames, measured.values, strict=True):
        if len(value.identity):
            scenes[scene.name].append(value.identity)
    if not scenes:
        return [NOTHING_FOUND]
    notes = []
    alike = [name for name, frames in scenes.items() if max(map(len, frames)) > 1 and _distinct(frames) == 1]
    if alike:
        notes.append(f"all boxes of a scene have one track id, as if tracking were off: {shown(', '.join(alike))}")
    followed = [frames for frames in scenes.values() if len(frames) > 1]
    if followed and all(_distinct(frames) == sum(map(len, frames)) for frames in followed):
        notes.append("no track is longer than a frame, as if state were not fed back")
    return notes


def _distinct(identities: Sequence[NDArray[np.int64]]) -> int:
    """How many tracks there are in frames."""
    return len(np.unique(np.concatenate(identities)))


def _strangers(classes: Iterable[Sequence[str]]) -> list[str]:
    """What is to be said about classes of the model that nuScenes does not judge."""
    names = sorted({name for known in classes for name in known if name not in RANGES})
    return [f"none of nuScenes' classes, and so left out: {shown(', '.join(names))}"] if names else []
