"""How well occupancy is forecast: IoU of occupied cells, and video panoptic quality of the instances in them.

Kim et al., "Video Panoptic Segmentation" (2020), as Hu et al., "FIERY" (2021) apply it to the view from above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSES = 2
"""Background and vehicles; figures are arrays with an entry for each."""
MATCH_IOU = 0.5


def _zeros() -> NDArray[np.float64]:
    return np.zeros(CLASSES)


@dataclass(frozen=True)
class OccupancyCounts:
    """What adds up over samples: cells and instances found, invented, missed, and the IoU of those found; [2] each."""

    cells_found: NDArray[np.float64] = field(default_factory=_zeros)
    cells_invented: NDArray[np.float64] = field(default_factory=_zeros)
    cells_missed: NDArray[np.float64] = field(default_factory=_zeros)
    found: NDArray[np.float64] = field(default_factory=_zeros)
    invented: NDArray[np.float64] = field(default_factory=_zeros)
    missed: NDArray[np.float64] = field(default_factory=_zeros)
    iou_sum: NDArray[np.float64] = field(default_factory=_zeros)

    def __add__(self, other: OccupancyCounts) -> OccupancyCounts:
        return OccupancyCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def figures(self) -> dict[str, NDArray[np.float64]]:
        """`iou`, `pq`, `sq` and `rq`, [2] each between 0 and 1: background, vehicles. What never occurs is 0."""
        cells = self.cells_found + self.cells_invented + self.cells_missed
        weight = np.maximum(self.found + self.invented / 2 + self.missed / 2, 1)
        return {
            "iou": self.cells_found / np.maximum(cells, 1),
            "pq": self.iou_sum / weight,
            "sq": self.iou_sum / np.maximum(self.found, 1),
            "rq": self.found / weight,
        }


def occupancy_metrics(
    predicted: NDArray[Any],
    true: NDArray[Any],
    window: tuple[slice, slice],
    *,
    predicted_cells: NDArray[Any] | None = None,
    true_cells: NDArray[Any] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """`iou`, `pq`, `sq` and `rq` within a window (rows, columns) of the grid; [2] each: background, vehicles.

    Takes instances [N, 5, n, n] of N samples at five steps: 0 is background, a vehicle keeps its number over time; and
    occupied cells of the same shape where they are more than the cells of instances, as in `count_sample`.
    """
    counts = OccupancyCounts()
    for i, (one, other) in enumerate(zip(predicted, true, strict=True)):
        cells = None if predicted_cells is None else predicted_cells[i]
        known = None if true_cells is None else true_cells[i]
        counts += count_sample(one, other, window, predicted_cells=cells, true_cells=known)
    return counts.figures()


def count_sample(
    predicted: NDArray[Any],
    true: NDArray[Any],
    window: tuple[slice, slice],
    *,
    predicted_cells: NDArray[Any] | None = None,
    true_cells: NDArray[Any] | None = None,
    consistent: bool = True,
) -> OccupancyCounts:
    """The counts of one sample, instances [T, n, n].

    Occupied cells [T, n, n] are those of an instance unless they are given: 0 or 1, 255 in `true_cells` where nothing
    is known. A vehicle that is found under another number than the time before is wrong at that step, if `consistent`.
    """
    rows, columns = window
    predicted, true = (np.asarray(instances)[:, rows, columns] for instances in (predicted, true))
    cells = predicted > 0 if predicted_cells is None else np.asarray(predicted_cells)[:, rows, columns]
    true_occupied = true > 0 if true_cells is None else np.asarray(true_cells)[:, rows, columns]
    found, invented, missed = _count_cells(cells, true_occupied)
    counts = OccupancyCounts(found, invented, missed)
    last: dict[int, int] = {}
    for frame, true_frame in zip(predicted, true, strict=True):
        counts += _count_instances(frame, true_frame, last if consistent else {})
    return counts


def _count_cells(predicted: NDArray[Any], true: NDArray[Any]) -> Sequence[NDArray[np.float64]]:
    """Cells found, invented and missed of each class. What is unknown is neither class: a prediction there is wrong."""
    classes = range(CLASSES)
    found = [np.count_nonzero((predicted == c) & (true == c)) for c in classes]
    invented = [np.count_nonzero((predicted == c) & (true != c)) for c in classes]
    missed = [np.count_nonzero((predicted != c) & (true == c)) for c in classes]
    return [np.array(count, np.float64) for count in (found, invented, missed)]


def _count_instances(predicted: NDArray[Any], true: NDArray[Any], last: dict[int, int]) -> OccupancyCounts:
    """Instances [n, n] of one step; `last` keeps for each true one the number under which it was found last."""
    counts = OccupancyCounts()
    pairs, shared = np.unique(np.stack((true.ravel(), predicted.ravel())), axis=1, return_counts=True)
    areas = dict(zip(*(values.tolist() for values in np.unique(predicted, return_counts=True)), strict=True))
    true_areas = dict(zip(*(values.tolist() for values in np.unique(true, return_counts=True)), strict=True))
    matched: set[int] = set()
    found: set[int] = set()
    for (true_id, predicted_id), cells in zip(pairs.T.tolist(), shared.tolist(), strict=True):
        iou = cells / (true_areas[true_id] + areas[predicted_id] - cells)
        if iou <= MATCH_IOU or (true_id > 0) != (predicted_id > 0):
            continue
        kind = int(true_id > 0)
        matched.add(true_id)
        found.add(predicted_id)
        if last.get(true_id, predicted_id) == predicted_id:
            counts.found[kind] += 1
            counts.iou_sum[kind] += iou
        else:
            counts.invented[kind] += 1
            counts.missed[kind] += 1
        last[true_id] = predicted_id
    for true_id in true_areas.keys() - matched:
        counts.missed[int(true_id > 0)] += 1
    for predicted_id in areas.keys() - found:
        counts.invented[int(predicted_id > 0)] += 1
    return counts
