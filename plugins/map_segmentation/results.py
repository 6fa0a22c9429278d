"""The merged map in metres."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from toolkit.config.model import ModelConfig
from toolkit.runtime.results import FrameResult, MapInstance, MapResult
from toolkit.specs import Interpretation, Tensors


def add_map(result: FrameResult, tensors: Tensors, config: ModelConfig) -> FrameResult:
    """The result with the map that postprocessing has merged, instances above the score threshold apart."""
    bev = config.bev
    origin = np.array([bev.x_range[0], bev.y_range[0]] * 2)
    cell = np.array([(bev.x_range[1] - bev.x_range[0]) / bev.width, (bev.y_range[1] - bev.y_range[0]) / bev.height] * 2)
    shown = tensors["map_merge_scores"] >= config.map.score_threshold
    labels, scores = tensors["map_instance_labels"][shown].tolist(), tensors["map_merge_scores"][shown].tolist()
    boxes, masks = (origin + tensors["map_instance_boxes"][shown] * cell).tolist(), tensors["map_instance_masks"][shown]
    instances = [
        MapInstance(config.map.thing_classes[label], score, (x0, y0, x1, y1), mask)
        for label, score, (x0, y0, x1, y1), mask in zip(labels, scores, boxes, masks, strict=True)
    ]
    road = MapResult(
        lane_classes=config.map.thing_classes,
        lanes=tensors["map_lanes"],
        lane_scores=tensors["map_lane_scores"],
        drivable=tensors["map_drivable"],
        instances=tuple(instances),
        x_range=bev.x_range,
        y_range=bev.y_range,
    )
    return replace(result, map=road)


INTERPRETATION = Interpretation(
    needs=(
        "map_lanes",
        "map_lane_scores",
        "map_drivable",
        "map_merge_scores",
        "map_instance_boxes",
        "map_instance_labels",
        "map_instance_masks",
    ),
    add=add_map,
    also=("map_scores", "map_labels", "map_boxes", "map_mask_scores"),
)
