"""nuScenes' own evaluations, of boxes that are at hand instead of in a file and a database.

This module needs the devkit; import it where a metric is computed.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from operator import attrgetter
from typing import Any

import numpy as np
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.detection.constants import ATTRIBUTE_NAMES, TP_METRICS
from nuscenes.eval.detection.data_classes import (
    DetectionBox,
    DetectionConfig,
    DetectionMetricDataList,
    DetectionMetrics,
)
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.eval.tracking.data_classes import TrackingBox, TrackingConfig, TrackingMetricDataList, TrackingMetrics
from nuscenes.eval.tracking.evaluate import TrackingEval
from nuscenes.eval.tracking.loaders import interpolate_tracks

from plugins.tracking.judged import JudgedBoxes
from plugins.tracking.submission import GlobalBoxes

BoxesOf = Callable[[JudgedBoxes], GlobalBoxes]
TRUE: BoxesOf = attrgetter("true")
FOUND: BoxesOf = attrgetter("found")
ScenesOfTracks = dict[str, dict[int, list[TrackingBox]]]


def evaluate_detection(
    frames: Sequence[JudgedBoxes], configuration: str
) -> tuple[DetectionMetrics, DetectionMetricDataList]:
    """What the devkit's evaluation returns: metrics, and curves by class and distance.

    Classes are evaluated one after the other, since its boxes take a kilobyte each.
    """
    config = config_factory(configuration)
    metrics, curves = DetectionMetrics(config), DetectionMetricDataList()
    for name in config.class_names:
        own = copy(config)
        own.class_names = [name]
        evaluation = _Detection(own, _eval_boxes(frames, TRUE, name), _eval_boxes(frames, FOUND, name))
        with _quietly():
            part, found = evaluation.evaluate()
        for distance in config.dist_ths:
            metrics.add_label_ap(name, distance, part.get_label_ap(name, distance))
            curves.set(name, distance, found[name, distance])
        for error in TP_METRICS:
            metrics.add_label_tp(name, error, part.get_label_tp(name, error))
    return metrics, curves


def evaluate_tracking(
    frames: Sequence[JudgedBoxes], configuration: str
) -> tuple[TrackingMetrics, TrackingMetricDataList]:
    """What the devkit's evaluation returns: metrics, and curves by class. A scene's frames are in the order of time."""
    config = config_factory(configuration)
    true, found = _tracks(frames, TRUE, config.class_names), _tracks(frames, FOUND, config.class_names)
    for scene in found.values():
        _average_scores(scene)
    with _quietly():
        for scene in (*true.values(), *found.values()):
            interpolate_tracks(scene)
        result: tuple[TrackingMetrics, TrackingMetricDataList] = _Tracking(config, true, found).evaluate()
    return result


class _Detection(DetectionEval):  # type: ignore[misc]  # the devkit has no types
    """The devkit's evaluation without its reading."""

    def __init__(self, config: DetectionConfig, true: EvalBoxes, found: EvalBoxes) -> None:
        self.cfg = config
        self.gt_boxes = true
        self.pred_boxes = found
        self.verbose = False


class _Tracking(TrackingEval):  # type: ignore[misc]  # the devkit has no types
    """The devkit's evaluation without its reading."""

    def __init__(self, config: TrackingConfig, true: ScenesOfTracks, found: ScenesOfTracks) -> None:
        self.cfg = config
        self.tracks_gt = true
        self.tracks_pred = found
        self.verbose = False
        self.output_dir = None
        self.render_classes = None


def _eval_boxes(frames: Sequence[JudgedBoxes], boxes_of: BoxesOf, name: str) -> EvalBoxes:
    """Those of a class."""
    result = EvalBoxes()
    for frame in frames:
        boxes = boxes_of(frame)
        chosen = boxes.where(np.array([label == name for label in boxes.label], bool))
        result.add_boxes(
            frame.token,
            [
                DetectionBox(
                    **geometry,
                    detection_name=name,
                    detection_score=score,
                    attribute_name=attribute if attribute in ATTRIBUTE_NAMES else "",
                )
                for geometry, score, attribute in zip(
                    _geometries(frame.token, chosen), chosen.score.tolist(), chosen.attribute, strict=True
                )
            ],
        )
    return result


def _tracks(frames: Sequence[JudgedBoxes], boxes_of: BoxesOf, names: Sequence[str]) -> ScenesOfTracks:
    """By scene and time; every frame is there, with or without boxes."""
    scenes: ScenesOfTracks = {}
    for frame in frames:
        boxes = boxes_of(frame)
        chosen = boxes.where(np.isin(boxes.label, names))
        scenes.setdefault(frame.scene, {})[frame.microseconds] = [
            TrackingBox(**geometry, tracking_id=identity, tracking_name=label, tracking_score=score)
            for geometry, identity, label, score in zip(
                _geometries(frame.token, chosen), chosen.identity, chosen.label, chosen.score.tolist(), strict=True
            )
        ]
    return scenes


def _geometries(token: str, boxes: GlobalBoxes) -> Iterator[dict[str, Any]]:
    columns = (boxes.position, boxes.size, boxes.rotation, boxes.velocity)
    for position, size, rotation, velocity in zip(*(column.tolist() for column in columns), strict=True):
        yield {
            "sample_token": token,
            "translation": position,
            "size": size,
            "rotation": rotation,
            "velocity": velocity,
        }


def _average_scores(scene: dict[int, list[TrackingBox]]) -> None:
    """Give every box the mean score of its track, by which the devkit ranks."""
    tracks: dict[str | int, list[TrackingBox]] = defaultdict(list)
    for boxes in scene.values():
        for box in boxes:
            tracks[box.tracking_id].append(box)
    for track in tracks.values():
        mean = float(np.mean([box.tracking_score for box in track]))
        for box in track:
            box.tracking_score = mean


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the warnings of the devkit, and of what it uses, to ourselves, and its changes of what is warned about."""
    with warnings.catch_warnings(record=True):
        yield
