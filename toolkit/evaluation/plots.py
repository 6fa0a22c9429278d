"""Plots of an evaluation as pictures: series that differ in colour, dashes and markers."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from toolkit.evaluation.evaluation_file import Evaluation, plot_file
from toolkit.evaluation.metric import Plot, PlotKind, Series
from toolkit.storage.outputs import new_file
from toolkit.text import shown

SIZE = (1280, 720)
"""Pixels, with letters that remain legible at half of it."""
_DPI = 160
_STYLE: Any = {"font.size": 10, "font.family": "sans-serif", "text.usetex": False, "hatch.linewidth": 0.6}
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a7d3a")
"""Okabe and Ito's but the yellow, which is too bright for white: apart from each other for colour-blind eyes too."""
_DASHES, _MARKERS = ("-", "--", "-.", ":"), ("o", "s", "^", "D", "v", "P", "X")
_HATCHES = ("", "//", "..", "\\\\", "xx", "--", "++")
_INK, _LINE = "#1c2430", "#d5dae2"
_LONGEST_LABEL, _LONGEST_TITLE = 40, 90
_MOST_BELOW, _MOST_NAMED = 3, 40
"""Series whose names stand below the plot, in one line, and those that are named at all."""
_MOST_MARKERS = 12
"""Of a line, unless it is interrupted: then a marker may be all there is to see of a part."""
_MOST_LETTERS = 90
"""Of names side by side below the bars, each in as much room as the longest takes, beside a legend."""
_MOST_NUMBERS = 24
"""Bars that have their numbers above them."""
_LEAST, _MOST = 1e-30, 1e30
"""Of numbers but zero; Matplotlib finds no scale for some that lie at the ends of what floats can hold."""


def write_plots(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write METRIC-PLOT.png into a folder for each plot. Raises InputError if that is not possible."""
    written = []
    for metric in evaluation.metrics:
        for plot in metric.plots:
            path = folder / plot_file(metric.name, plot.name)
            with new_file(path) as work:
                work.write_bytes(draw_plot(plot))
            written.append(path)
    return written


def draw_plot(plot: Plot) -> bytes:
    """A PNG of 1280 x 720. Where a series has no number there is a gap."""
    # Matplotlib warns of letters that its font does not have, and shows boxes.
    with rc_context(_STYLE), warnings.catch_warnings(action="ignore"):
        figure = Figure(figsize=(SIZE[0] / _DPI, SIZE[1] / _DPI), dpi=_DPI, layout="constrained")
        axes = figure.subplots()
        if plot.kind is PlotKind.BARS:
            _draw_bars(axes, plot.series)
        else:
            _draw_lines(axes, plot.series, joined=plot.kind is PlotKind.LINES)
        _scale(axes, plot.series)
        _label(axes, plot)
        _name(figure, axes)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw_lines(axes: Axes, series: Sequence[Series], *, joined: bool) -> None:
    """Lines with markers, or markers alone."""
    for i, one in enumerate(series):
        y = _numbers(one)
        axes.plot(
            _within_scale(one.x),
            y,
            color=_COLORS[i % len(_COLORS)],
            linestyle=_DASHES[(i + i // len(_COLORS)) % len(_DASHES)] if joined else "none",
            marker=_MARKERS[i % len(_MARKERS)],
            markevery=1 if not joined or np.isnan(y).any() else max(1, len(y) // _MOST_MARKERS),
            markersize=5,
            linewidth=1.8,
            clip_on=False,
            label=_series_name(one),
        )


def _draw_bars(axes: Axes, series: Sequence[Series]) -> None:
    """Those of one name stand beside each other, in the order of the series; a dash stands for no number."""
    names = list(dict.fromkeys(_bar_name(x) for one in series for x in one.x))
    places = {name: i for i, name in enumerate(names)}
    width = 0.8 / max(len(series), 1)
    numbered = sum(len(one.x) for one in series) <= _MOST_NUMBERS
    for i, one in enumerate(series):
        at = np.array([places[_bar_name(x)] for x in one.x]) + (i - (len(series) - 1) / 2) * width
        y = _numbers(one)
        bars = axes.bar(
            at,
            y,
            0.92 * width,
            color=_COLORS[i % len(_COLORS)],
            hatch=_HATCHES[i % len(_HATCHES)],
            edgecolor="white",
            linewidth=0,
            label=_series_name(one),
        )
        if numbered:
            axes.bar_label(bars, fmt="%.3g", padding=2, fontsize=8, color=_INK)
        for place in at[np.isnan(y)]:
            axes.text(place, 0, "–", ha="center", va="bottom", color=_INK)
    labels = [shown(name, _LONGEST_LABEL) for name in names]
    crowded = len(labels) * max(map(len, labels), default=0) > _MOST_LETTERS
    slanted: Any = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(range(len(names)), labels, parse_math=False, **slanted)


def _scale(axes: Axes, series: Sequence[Series]) -> None:
    """Shares, errors and counts from zero on; what is zero throughout lies at the bottom of a plot up to one."""
    known = np.concatenate([np.zeros(0), *(_numbers(one) for one in series)])
    known = known[~np.isnan(known)]
    if not len(known):
        axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center", va="center", color=_INK)
        axes.set_yticks([])
    elif not known.any():
        axes.set_ylim(0, 1)
    elif known.min() >= 0:
        axes.set_ylim(bottom=0, top=1.08 * float(known.max()))


def _label(axes: Axes, plot: Plot) -> None:
    axes.set_title(shown(plot.title, _LONGEST_TITLE), loc="left", fontsize=12, color=_INK, parse_math=False)
    axes.set_xlabel(shown(plot.x_label, _LONGEST_TITLE), color=_INK, parse_math=False)
    axes.set_ylabel(shown(plot.y_label, _LONGEST_LABEL), color=_INK, parse_math=False)
    axes.tick_params(which="both", colors=_INK, labelcolor=_INK)
    axes.grid(axis="y" if plot.kind is PlotKind.BARS else "both", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_LINE)


def _name(figure: Figure, axes: Axes) -> None:
    """The names of series beside the plot, or of a few below it; that of a single one is the plot's own."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) < 2:
        return
    few = len(handles) <= _MOST_BELOW
    legend = figure.legend(
        handles[:_MOST_NAMED],
        labels[:_MOST_NAMED],
        loc="outside lower center" if few else "outside right upper",
        ncols=len(handles) if few else math.ceil(min(len(handles), _MOST_NAMED) / 20),
        frameon=False,
        fontsize=9,
        handlelength=3,
        labelcolor=_INK,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _numbers(series: Series) -> NDArray[np.float64]:
    return _within_scale([math.nan if y is None else y for y in series.y])


def _within_scale(values: Sequence[Any]) -> NDArray[np.float64]:
    numbers = np.array(values, np.float64)
    return np.where(np.abs(numbers) < _LEAST, 0.0, np.clip(numbers, -_MOST, _MOST))


def _series_name(series: Series) -> str:
    """With a space before it, since Matplotlib hides names that begin with an underscore."""
    return f" {shown(series.label, _LONGEST_LABEL)}"


def _bar_name(x: float | str) -> str:
    return x if isinstance(x, str) else f"{x:g}"
