"""Latency as an inline SVG: percentiles of each stage, and every frame's stages on top of each other."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from toolkit.data.stage_clock import Stage

COLORS = {stage: f"#0000{i:02x}" for i, stage in enumerate(Stage, 1)}
"""Stand-ins for the page's variables `--stage-1` and so on, so that the plot follows its theme."""
INK, LINE = "#0100ff", "#0200ff"
"""Likewise for the colours of text and of lines."""
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "latency", "font.size": 10, "font.family": "sans-serif"}
_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def latency_plot(frames: Sequence[Mapping[Stage, float]]) -> str:
    """An `<svg>` element that shows the seconds by stage of each frame. Colours are the page's CSS variables."""
    stages = [stage for stage in Stage if any(stage in frame for frame in frames)]
    seconds = np.array([[frame.get(stage, 0.0) for stage in stages] for frame in frames])
    with rc_context(_STYLE):
        figure = Figure(figsize=(10.5, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_percentiles(left, stages, seconds)
        _draw_frames(right, stages, seconds)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata=_METADATA)
    return _themed(buffer.getvalue())


def _draw_percentiles(axes: Axes, stages: Sequence[Stage], seconds: np.ndarray) -> None:
    """p50 as a dot and the way to p99 as a line, with p90 on it."""
    for row, (stage, column) in enumerate(zip(stages, seconds.T, strict=True)):
        p50, p90, p99 = np.maximum(1000 * np.percentile(column, (50, 90, 99)), 1e-3)
        axes.plot([p50, p99], [row, row], color=COLORS[stage], linewidth=3, solid_capstyle="butt")
        axes.plot([p50], [row], "o", color=COLORS[stage], markersize=8)
        axes.plot([p90, p99], [row, row], "|", color=COLORS[stage], markersize=14, markeredgewidth=2)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_yticks(range(len(stages)), stages)
    axes.invert_yaxis()
    _label(axes, "By stage: p50 (dot), p90, p99 (ticks)", "milliseconds, logarithmic")
    axes.grid(axis="x", color=LINE, linewidth=0.6)


def _draw_frames(axes: Axes, stages: Sequence[Stage], seconds: np.ndarray) -> None:
    """Filled steps rather than bars, which would be too many for long runs."""
    edges = np.arange(len(seconds) + 1) - 0.5
    bottom = np.zeros(len(seconds))
    for stage, column in zip(stages, seconds.T, strict=True):
        axes.stairs(bottom + column, edges, baseline=bottom, fill=True, color=COLORS[stage], label=stage)
        bottom = bottom + column
    axes.set_xlim(edges[0], edges[-1])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    _label(axes, "By frame, colours as on the left", "frame")
    axes.set_ylabel("seconds", color=INK)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)


def _label(axes: Axes, title: str, horizontal: str) -> None:
    axes.set_title(title, color=INK, loc="left", fontsize=11)
    axes.set_xlabel(horizontal, color=INK)
    axes.tick_params(which="both", colors=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LINE)


def _themed(document: str) -> str:
    """The element alone, without the document around it, its metadata and fixed colours."""
    element = re.sub(r"<metadata>.*?</metadata>", "", document[document.index("<svg") :], flags=re.DOTALL)
    variables = {color: f"var(--stage-{i})" for i, color in enumerate(COLORS.values(), 1)}
    for color, variable in (variables | {INK: "var(--ink)", LINE: "var(--line)"}).items():
        element = element.replace(color, variable)
    return element.replace("<svg ", '<svg role="img" aria-labelledby="latency-caption" ', 1)
