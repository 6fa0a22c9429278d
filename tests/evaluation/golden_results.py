"""What the reference's network gave for its small data set, as results of the toolkit."""

from __future__ import annotations

import numpy as np

from tests.evaluation.conftest import Arrays, Located
from tests.evaluation.judging import result_of
from toolkit.config.model import YawConvention
from toolkit.runtime.heading import heading_of
from toolkit.runtime.results import Detections, FrameResult, MotionModes, TrackedBox

CLASSES = ("car", "truck", "construction_vehicle", "bus", "trailer", "barrier", "motorcycle", "bicycle", "pedestrian",
           "traffic_cone")  # fmt: skip


def typed_boxes(boxes: np.ndarray) -> np.ndarray:
    """Boxes [N, 9] with their bottom and the reference's clockwise yaw as boxes with centre and heading."""
    typed = boxes.copy()
    typed[:, 2] += boxes[:, 5] / 2
    typed[:, 6] = [heading_of(float(yaw), YawConvention.CLOCKWISE) for yaw in boxes[:, 6]]
    return typed


def golden_result(outputs: Arrays, located: Located) -> FrameResult:
    """Detections and tracked boxes with their forecasts."""
    golden = {name: outputs[f"{located.prefix}.{name}"] for name in
              ("boxes", "labels", "scores", "track_ids", "traj", "traj_scores",
               "det_boxes", "det_labels", "det_scores")}  # fmt: skip
    tracked = []
    for row, box in enumerate(typed_boxes(golden["boxes"]).tolist()):
        paths = golden["traj"][row][..., :2] + golden["boxes"][row, :2]
        motion = MotionModes(paths, np.exp(golden["traj_scores"][row]), 0.5)
        x, y, z, width, length, height, heading, vx, vy = box
        tracked.append(
            TrackedBox(
                track_id=int(golden["track_ids"][row]),
                label=CLASSES[golden["labels"][row]],
                score=float(golden["scores"][row]),
                center=(x, y, z),
                size=(width, length, height),
                heading=heading,
                velocity=(vx, vy),
                motion=motion,
            )
        )
    labels, scores = golden["det_labels"].astype(np.int32), golden["det_scores"]
    detections = Detections(CLASSES, labels, scores, typed_boxes(golden["det_boxes"]))
    return result_of(located.frame.token, boxes=tuple(tracked), detections=detections)
