"""The metric of occupancy: IoU of occupied cells, and video panoptic quality of the instances in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plugins.occupancy.metrics import OccupancyCounts, count_sample
from toolkit.data.ground_truth import Gap
from toolkit.evaluation.metric import Figure, JudgedFrame, Loss, Measured, Metric, Plot, Ranking, Series, Verdict
from toolkit.runtime.results import OccupancyResult

STEPS = 5
STEP_SECONDS = 0.5
SECONDS = tuple(STEP_SECONDS * step for step in range(STEPS))
NEAR_METRES = {25.0: 8.0, 100.0: 30.0}
"""Width of the near window by that of the grid, as the reference judges UniAD-tiny and UniAD-base."""
NEAR_SHARE = 0.3
"""Of a grid of another width."""
UNKNOWN = 255
VEHICLES = 1
"""Index of the class in counts and figures."""
WINDOWS = ("near", "far")
QUALITIES = {"VPQ": "pq", "SQ": "sq", "RQ": "rq"}
REDUCTION = "sum over the cells of all samples and steps"
QUALITY_REDUCTION = "sum over the instances of all samples and steps"


@dataclass(frozen=True, eq=False)
class JudgedOccupancy:
    """What is counted in one sample, in the near and in the far window, whose `widths` are in metres."""

    widths: tuple[float, float]
    shared: NDArray[np.int64]
    """[2, 5]: cells that are occupied on both sides, at each step."""
    either: NDArray[np.int64]
    """[2, 5]: cells that are occupied on any side."""
    instances: tuple[OccupancyCounts, OccupancyCounts] | None
    """None where the result tells none."""


def measure(frame: JudgedFrame) -> JudgedOccupancy | Gap:
    """The cells and instances of one sample, now and at the next four steps."""
    from plugins.occupancy.ground_truth import instance_grids

    space = frame.result.occupancy
    if space is None or not _is_judgeable(space):
        return Gap(frame.annotated.token, f"occupancy of {STEPS} steps of {STEP_SECONDS} s on a square grid")
    size = space.cells.shape[-1]
    grids = instance_grids(frame.scene, frame.index, size=size, cell_metres=_width(space) / size)
    if isinstance(grids, Gap):
        return grids
    if grids.gap is not None:
        return grids.gap
    return judge(space, grids.segmentation[:STEPS], consecutive(grids.instances[:STEPS]))


def judge(space: OccupancyResult, cells: NDArray[np.uint8], instances: NDArray[Any]) -> JudgedOccupancy:
    """The counts of a result against cells [5, n, n] that are occupied (1; 255 is unknown), and instances in them."""
    size, width = space.cells.shape[-1], _width(space)
    near = NEAR_METRES.get(round(width, 3), NEAR_SHARE * width)
    windows = (window(size, near / width), window(size))
    predicted, true = space.cells[:STEPS], cells == 1
    return JudgedOccupancy(
        widths=(near, width),
        shared=np.array([_counted(predicted & true, part) for part in windows]),
        either=np.array([_counted(predicted | true, part) for part in windows]),
        instances=_instances(space.instances, instances, windows),
    )


def window(size: int, share: float = 1.0) -> tuple[slice, slice]:
    """Rows and columns of the middle of a grid, by its share of the grid's width."""
    half = round(size * share / 2)
    middle = slice(size // 2 - half, size // 2 + half)
    return middle, middle


def consecutive(instances: NDArray[Any]) -> NDArray[np.int32]:
    """Instances of a sample [T, n, n] numbered from 1, by their order; what is free or unknown is 0."""
    numbers = np.unique(instances)
    numbers = numbers[(numbers != 0) & (numbers != UNKNOWN)]
    found = np.isin(instances, numbers)
    return np.where(found, np.searchsorted(numbers, instances) + 1, 0).astype(np.int32)


def _is_judgeable(space: OccupancyResult) -> bool:
    steps, height, width = space.cells.shape
    return steps >= STEPS and height == width and abs(space.step_seconds - STEP_SECONDS) < 1e-6


def _width(space: OccupancyResult) -> float:
    return space.x_range[1] - space.x_range[0]


def _counted(mask: NDArray[np.bool_], window: tuple[slice, slice]) -> NDArray[np.int64]:
    rows, columns = window
    counts: NDArray[np.int64] = np.count_nonzero(mask[:, rows, columns], axis=(1, 2))
    return counts


def _instances(
    predicted: NDArray[np.int32] | None, true: NDArray[Any], windows: Sequence[tuple[slice, slice]]
) -> tuple[OccupancyCounts, OccupancyCounts] | None:
    if predicted is None:
        return None
    near, far = (count_sample(predicted[:STEPS], true, part) for part in windows)
    return near, far


def compute(measured: Measured, folder: Path) -> Verdict:
    """IoU and panoptic quality of vehicles in both windows, and the frames whose occupancy is least like the truth."""
    samples: Sequence[JudgedOccupancy] = measured.values
    shared, either = (
        np.array([getattr(sample, name) for sample in samples], np.int64).reshape(-1, len(WINDOWS), STEPS)
        for name in ("shared", "either")
    )
    widths = samples[0].widths if samples else (np.nan, np.nan)
    told = [sample.instances for sample in samples if sample.instances is not None]
    return Verdict(
        figures=[
            *_iou_figures(shared.sum((0, 2)), either.sum((0, 2)), widths),
            *_quality_figures(told, widths),
        ],
        plots=[_plot(_shares(shared.sum(0), either.sum(0)))],
        rankings=[_worst(measured, shared[:, 1].sum(-1), either[:, 1].sum(-1))],
        notes=_notes(len(samples) - len(told)),
    )


def _shares(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """In percent; NaN of nothing."""
    with np.errstate(invalid="ignore"):
        shares: NDArray[np.float64] = 100 * part / whole
    return shares


def _iou_figures(shared: NDArray[np.int64], either: NDArray[np.int64], widths: tuple[float, float]) -> Iterator[Figure]:
    for name, width, value in zip(WINDOWS, widths, _shares(shared, either), strict=True):
        yield Figure(f"IoU-{name}", float(value), "%", _protocol(width), REDUCTION, True)


def _quality_figures(
    told: Sequence[tuple[OccupancyCounts, OccupancyCounts]], widths: tuple[float, float]
) -> Iterator[Figure]:
    for place, (name, width) in enumerate(zip(WINDOWS, widths, strict=True)):
        counts = sum((counted[place] for counted in told), start=OccupancyCounts())
        seen = (counts.found + counts.invented + counts.missed)[VEHICLES] > 0
        figures = counts.figures()
        for title, key in QUALITIES.items():
            value = 100 * float(figures[key][VEHICLES]) if seen else np.nan
            yield Figure(f"{title}-{name}", value, "%", _protocol(width), QUALITY_REDUCTION, True)


def _protocol(width: float) -> str:
    return f"FIERY and UniAD, {width:g} x {width:g} m around the LiDAR"


def _plot(shares: NDArray[np.float64]) -> Plot:
    series = [Series(name, SECONDS, values.tolist()) for name, values in zip(WINDOWS, shares, strict=True)]
    return Plot("IoU", "Occupied cells", "time ahead (s)", "IoU (%)", series)


def _worst(measured: Measured, shared: NDArray[np.int64], either: NDArray[np.int64]) -> Ranking:
    tokens = [scene.frames[index].token for scene, index in measured.frames]
    badness = {
        token: float(100 - share)
        for token, share in zip(tokens, _shares(shared, either), strict=True)
        if np.isfinite(share)
    }
    return Ranking("occupancy-error", "occupied cells that are wrong", "%", badness)


def _notes(without: int) -> Sequence[str]:
    if not without:
        return ()
    return (
        f"VPQ, SQ and RQ leave out {without} frame{'s' * (without > 1)} whose results hold no instances, as those of "
        "an older version; run the bundle again",
    )


METRIC = Metric(
    name="occupancy",
    meaning="IoU and video panoptic quality of vehicles, now and in the next two seconds",
    needs=("occupancy",),
    truth=("annotations", "two key frames before and four after"),
    open=lambda truth: measure,
    compute=compute,
    losses=(Loss("IoU-near", absolute=1.0), Loss("IoU-far", absolute=1.0)),
)
