"""What a plugin says about a metric: what it needs, what it measures in a frame, and what follows from all frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.data.ground_truth import AnnotatedFrame, AnnotatedScene, GroundTruth

if TYPE_CHECKING:
    from toolkit.runtime.results import FrameResult


@dataclass(frozen=True, eq=False)
class JudgedFrame:
    """A key frame's result beside what the data set knows: the frame is `scene.frames[index]`."""

    result: FrameResult
    scene: AnnotatedScene
    index: int

    @property
    def annotated(self) -> AnnotatedFrame:
        """The frame as the data set has it."""
        return self.scene.frames[self.index]


@dataclass(frozen=True)
class Figure:
    """One number of an evaluation.

    `name` is unique within its metric and reads like "L2@3s"; a full name has the metric's before it, "planning/L2@3s".
    `value` is NaN where there was nothing to judge. `unit` is "m", "%", "s" … or empty, `protocol` says whose rules
    these are, such as "UniAD, at the step", and `reduction` how frames become one number, such as "mean over samples".
    """

    name: str
    value: float
    unit: str
    protocol: str
    reduction: str
    higher_is_better: bool


class PlotKind(StrEnum):
    """How the series of a plot are drawn."""

    LINES = "lines"
    POINTS = "points"
    BARS = "bars"


@dataclass(frozen=True)
class Series:
    """A line of a plot, or points or bars of one colour: `y` over `x`, which may hold names where bars are drawn.

    Where there is nothing to show, `y` is NaN, or None.
    """

    label: str
    x: Sequence[float | str]
    y: Sequence[float | None]


@dataclass(frozen=True)
class Plot:
    """A picture of some figures. `name` is unique within its metric and becomes part of a file's name."""

    name: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    kind: PlotKind = PlotKind.LINES


@dataclass(frozen=True)
class Ranking:
    """How bad each frame is, by its token, in one respect: the larger the worse. `title` reads like "plan error"."""

    name: str
    title: str
    unit: str
    badness: Mapping[str, float]


@dataclass(frozen=True)
class Verdict:
    """What a metric says about all frames. `notes` are sentences about what could not be judged, and why."""

    figures: Sequence[Figure] = ()
    plots: Sequence[Plot] = ()
    rankings: Sequence[Ranking] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Measured:
    """What a metric measured in each frame that it could judge, in the order of the ground truth's scenes and frames.

    `values` are what its `Measure` returned, `frames` say of which scene and which of its frames.
    """

    truth: GroundTruth
    frames: Sequence[tuple[AnnotatedScene, int]]
    values: Sequence[Any]


Measure = Callable[[JudgedFrame], Any]
"""What there is to know of one frame, small, of any type; or the `Gap` in the ground truth that forbids judging it.

It is called once for each frame, in any order, and keeps nothing of one frame for another, since the results of a drive
may lie in several folders. What `Metric.compute` gets is sorted, so that it always sums up the same.
"""


@dataclass(frozen=True)
class Loss:
    """How much worse a figure of a metric, by its name there, may become when the network is quantized.

    By this `share` of what it is in FP32, or by as much in its unit as is `absolute`, whichever is more.
    """

    figure: str
    share: float = 0.0
    absolute: float = 0.0


@dataclass(frozen=True)
class Metric:
    """How results are judged in one respect.

    `name` is the metric's in figures' names, tables and options. `needs` are fields of `FrameResult` without which a
    frame cannot be judged; `truth` says in words what must be known of a frame, such as "annotations". `open` gives the
    function that measures frames against a ground truth. `compute` makes figures of all that it measured; its folder is
    the one into which `export` wrote. `export` writes files for other programs, such as a benchmark's submission, and
    returns their paths. `replaces` names the metric that this one stands in for. `losses` are what `quantize` allows of
    the figures that matter most.
    """

    name: str
    meaning: str
    needs: tuple[str, ...]
    truth: tuple[str, ...]
    open: Callable[[GroundTruth], Measure]
    compute: Callable[[Measured, Path], Verdict]
    export: Callable[[Measured, Path], Sequence[Path]] | None = None
    replaces: str | None = None
    losses: tuple[Loss, ...] = ()
