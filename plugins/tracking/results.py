"""Boxes as tracked objects, and as detections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ModelConfig
from toolkit.runtime.heading import heading_of
from toolkit.runtime.results import Detections, FrameResult, TrackedBox
from toolkit.specs import Interpretation, Tensors

DETECTIONS = ("detection_boxes", "detection_scores", "detection_labels", "detection_count")
"""Networks of earlier versions give none."""


def add_boxes(result: FrameResult, tensors: Tensors, config: ModelConfig) -> FrameResult:
    """The result with all valid boxes, and what was dropped; with detections where the network gives them."""
    count = int(tensors["box_count"][0])
    rows = (tensors[name][:count].tolist() for name in ("boxes", "box_ids", "box_labels", "box_scores"))
    headings = _headings(tensors["boxes"][:count], config).tolist()
    boxes = []
    for box, track_id, label, score, heading in zip(*rows, headings, strict=True):
        x, y, z, width, length, height, _, vx, vy = box
        center, size = (x, y, z + height / 2), (width, length, height)
        boxes.append(TrackedBox(track_id, config.class_names[label], score, center, size, heading, (vx, vy)))
    return replace(
        result,
        boxes=tuple(boxes),
        detections=_detections(tensors, config) if tensors.keys() >= set(DETECTIONS) else None,
        dropped_tracks=int(tensors["dropped_tracks"][0]),
        dropped_agents=int(tensors["dropped_agents"][0]),
    )


def _detections(tensors: Tensors, config: ModelConfig) -> Detections:
    count = int(tensors["detection_count"][0])
    boxes, scores, labels = (tensors[name][:count] for name in DETECTIONS[:3])
    boxes = boxes.copy()
    boxes[:, 2] += boxes[:, 5] / 2
    boxes[:, 6] = _headings(boxes, config)
    return Detections(classes=config.class_names, labels=labels, scores=scores, boxes=boxes)


def _headings(boxes: NDArray[np.float32], config: ModelConfig) -> NDArray[np.float64]:
    """[N], of boxes [N, 9] as the network gives them."""
    return heading_of(boxes[:, 6].astype(np.float64), config.yaw_convention)


INTERPRETATION = Interpretation(
    needs=("boxes", "box_ids", "box_labels", "box_scores", "box_count", "dropped_tracks", "dropped_agents"),
    add=add_boxes,
    also=("box_rows", "box_row_count", "agent_center", *DETECTIONS),
)
