"""Occupied cells with their extent, and the vehicles in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ModelConfig
from toolkit.runtime.results import FrameResult, OccupancyResult
from toolkit.specs import Interpretation, Tensors


def add_occupancy(result: FrameResult, tensors: Tensors, config: ModelConfig) -> FrameResult:
    """The result with the cells that vehicles occupy, on a grid around the LiDAR."""
    _, height, width = tensors["occupancy"].shape
    half_x, half_y = (cells * config.occupancy.cell_metres / 2 for cells in (width, height))
    space = OccupancyResult(
        cells=tensors["occupancy"].astype(np.bool_),
        scores=tensors["occupancy_scores"],
        step_seconds=config.motion.step_seconds,
        x_range=(-half_x, half_x),
        y_range=(-half_y, half_y),
        instances=_instances(result, tensors),
    )
    return replace(result, occupancy=space)


def _instances(result: FrameResult, tensors: Tensors) -> NDArray[np.int32] | None:
    """None from networks of earlier versions, and where nobody tells the boxes."""
    instances = tensors.get("occupancy_instances")
    return instances if instances is not None and instances.max(initial=0) <= len(result.boxes) else None


INTERPRETATION = Interpretation(
    needs=("occupancy", "occupancy_scores"), add=add_occupancy, also=("occupancy_instances",)
)
