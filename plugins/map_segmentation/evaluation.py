"""The metric of maps: IoU of the drivable area and of what marks lanes."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import numpy as np

from plugins.map_segmentation.metrics import NAMES, MapCounts, count_sample
from toolkit.data.ground_truth import Gap, GroundTruth
from toolkit.evaluation.metric import (
    Figure,
    JudgedFrame,
    Measure,
    Measured,
    Metric,
    Plot,
    PlotKind,
    Ranking,
    Series,
    Verdict,
)
from toolkit.runtime.results import MapResult

NAMES_OF_KINDS = (("divider",), ("crossing",), ("boundary", "contour"))
"""How a model may call each of the kinds of lines, in the order of their labels."""
EXTENT = (-51.2, 51.2)
"""Metres: what masks cover, in both directions."""
FINE_CELLS = 100
"""On more cells a side lines are drawn two cells thick."""
PROTOCOL, REDUCTION = "UniAD, masks of ±51.2 m", "sum over the cells of all samples"


def open_maps(truth: GroundTruth) -> Measure:
    """The measure of frames of these scenes; the map of each place is read once."""
    from plugins.map_segmentation.ground_truth import road_map, true_map

    road = cache(partial(road_map, truth))

    def measure(frame: JudgedFrame) -> MapCounts | Gap:
        """The cells in which the map is seen, and those in which it is."""
        seen = frame.result.map
        kinds = None if seen is None else places_of_kinds(seen)
        if seen is None or kinds is None:
            return Gap(frame.annotated.token, "a square map of ±51.2 m with dividers, crossings and boundaries")
        size = seen.lanes.shape[-1]
        thickness = 1 if size <= FINE_CELLS else 2
        true = true_map(frame.scene, frame.index, road(frame.scene.location), size=size, thickness=thickness)
        if isinstance(true, Gap):
            return true
        return count_sample(seen.lanes[kinds], seen.drivable, true.labels, true.masks)

    return measure


def places_of_kinds(seen: MapResult) -> list[int] | None:
    """Where each kind of lines is among the model's classes; None if its map cannot be judged."""
    height, width = seen.drivable.shape
    places = [[i for i, name in enumerate(seen.lane_classes) if name in names] for names in NAMES_OF_KINDS]
    square = height == width and np.allclose((seen.x_range, seen.y_range), EXTENT)
    return [place for [place] in places] if square and all(len(found) == 1 for found in places) else None


def compute(measured: Measured, folder: Path) -> Verdict:
    """IoU of everything, and the frames whose drivable area is least like the truth."""
    nothing = np.zeros(len(NAMES), np.int64)
    counts: MapCounts = sum(measured.values, start=MapCounts(nothing, nothing))
    percent = {name: 100 * value for name, value in counts.figures().items()}
    return Verdict(
        figures=[Figure(f"IoU-{name}", value, "%", PROTOCOL, REDUCTION, True) for name, value in percent.items()],
        plots=[
            Plot("IoU", "Map", "", "IoU (%)", (Series("IoU", tuple(percent), tuple(percent.values())),), PlotKind.BARS)
        ],
        rankings=[_worst(measured)],
    )


def _worst(measured: Measured) -> Ranking:
    badness = {}
    for (scene, index), counts in zip(measured.frames, measured.values, strict=True):
        drivable = counts.figures()[NAMES[0]]
        if np.isfinite(drivable):
            badness[scene.frames[index].token] = 100 * (1 - drivable)
    return Ranking("drivable-error", "drivable area that is wrong", "%", badness)


METRIC = Metric(
    name="map",
    meaning="IoU of the drivable area, of lanes, and of each kind of marking",
    needs=("map",),
    truth=("the map of the place",),
    open=open_maps,
    compute=compute,
)
