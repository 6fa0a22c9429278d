"""How well the map is seen: intersection over union of its masks in the view from above."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES = ("drivable", "lanes", "divider", "crossing", "contour")
"""The drivable area, whatever marks a lane, and each kind of marking; `contour` is the boundary of the road."""
KINDS = NAMES[2:]
"""In the order of their labels."""


@dataclass(frozen=True)
class MapCounts:
    """Cells in the intersection and in the union of prediction and truth, [5] each in the order of `NAMES`."""

    intersection: NDArray[np.int64]
    union: NDArray[np.int64]

    def __add__(self, other: MapCounts) -> MapCounts:
        return MapCounts(self.intersection + other.intersection, self.union + other.union)

    def figures(self) -> dict[str, float]:
        """IoU by name, between 0 and 1; NaN for what neither side ever has."""
        with np.errstate(invalid="ignore"):
            return dict(zip(NAMES, (self.intersection / self.union).tolist(), strict=True))


def map_metrics(
    lanes: Iterable[NDArray[Any]],
    drivable: Iterable[NDArray[Any]],
    labels: Iterable[NDArray[Any]],
    masks: Iterable[NDArray[Any]],
) -> dict[str, float]:
    """IoU of each of `NAMES`, over all cells of all samples.

    Takes for every sample the predicted lanes [3, n, n] by kind and drivable area [n, n], and the true instances: their
    labels [K + 1] (0 divider, 1 crossing, 2 contour; the last is the drivable area) and masks [K + 1, n, n].
    Without samples all are NaN.
    """
    counts = MapCounts(np.zeros(len(NAMES), np.int64), np.zeros(len(NAMES), np.int64))
    for sample in zip(lanes, drivable, labels, masks, strict=True):
        counts += count_sample(*sample)
    return counts.figures()


def count_sample(
    lanes: NDArray[Any],
    drivable: NDArray[Any],
    labels: NDArray[Any],
    masks: NDArray[Any],
) -> MapCounts:
    """The counts of one sample; arguments as those of a sample of `map_metrics`."""
    predicted, true = np.asarray(lanes) != 0, np.asarray(masks) != 0
    kinds = np.asarray(labels)[:-1]
    pairs = [(np.asarray(drivable) != 0, true[-1]), (predicted.any(0), true[:-1].any(0))]
    pairs += [(predicted[kind], true[:-1][kinds == kind].any(0)) for kind in range(len(KINDS))]
    return MapCounts(
        np.array([np.count_nonzero(one & other) for one, other in pairs], np.int64),
        np.array([np.count_nonzero(one | other) for one, other in pairs], np.int64),
    )
