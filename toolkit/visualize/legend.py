"""What the colours mean: only of what the picture shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.runtime.results import FrameResult
from toolkit.visualize.canvas import Picture, arrow, dash, dot, fill, outline, stroke
from toolkit.visualize.lettering import shortened, write
from toolkit.visualize.palette import (
    CLASSES,
    DRIVABLE,
    EGO,
    INK,
    MUTED,
    PANEL,
    PLAN,
    TRUTH,
    Color,
    class_color,
    lane_color,
    mixed,
    occupancy_color,
)

Symbol = Callable[[Picture, float, float], None]
"""Draws on a picture, from the place (u, v) to the right; v is the middle."""
_SYMBOL, _LINE, _SIZE = 26, 19, 12
"""Pixels: the width of a symbol, from line to line, and of text."""


@dataclass(frozen=True)
class Group:
    """A heading and what stands below it, each a symbol and its meaning."""

    title: str
    entries: Sequence[tuple[Symbol, str]]


def draw_legend(
    picture: Picture, result: FrameResult, with_truth: bool, left: int, top: int, width: int, height: int
) -> None:
    """Write the legend into a rectangle, in as many columns of groups as fit."""
    columns = max(width // 170, 1)
    column, u, v = 0, left, top
    for group in _groups(result, with_truth):
        needed = (len(group.entries) + 1) * _LINE
        if v > top and v + needed > top + height and column + 1 < columns:
            column += 1
            u, v = left + column * (width // columns), top
        write(picture, group.title, (u, v + _LINE / 2), _SIZE, INK, bold=True)
        for i, (symbol, meaning) in enumerate(group.entries, start=1):
            middle = v + (i + 0.5) * _LINE
            symbol(picture, u, middle)
            text = shortened(meaning, _SIZE, width // columns - _SYMBOL - 14)
            write(picture, text, (u + _SYMBOL + 8, middle), _SIZE, MUTED)
        v += needed + 8


def _groups(result: FrameResult, with_truth: bool) -> list[Group]:
    groups = [Group("Ego", _ego_entries(result))]
    if result.map is not None:
        lanes = [(_area(lane_color(i)), _spaced(name)) for i, name in enumerate(result.map.lane_classes)]
        groups.append(Group("Map", [(_area(DRIVABLE), "drivable"), *lanes]))
    if result.occupancy is not None:
        steps = len(result.occupancy.cells)
        seconds = (steps - 1) * result.occupancy.step_seconds
        groups.append(Group("Occupied by vehicles", [(_time_scale(steps), f"now … +{seconds:g} s")]))
    if result.boxes or with_truth:
        groups.append(Group("Objects", _object_entries(result, with_truth)))
    return groups


def _ego_entries(result: FrameResult) -> list[tuple[Symbol, str]]:
    entries: list[tuple[Symbol, str]] = [(_area(EGO), "vehicle")]
    if result.plan is not None:
        seconds = len(result.plan.points) * result.plan.step_seconds
        entries.append((_path(PLAN, 3), f"plan, {seconds:g} s"))
    if result.ego_motion is not None:
        entries.append((_path(EGO, 2, alpha=0.5), "forecast"))
    return entries


def _object_entries(result: FrameResult, with_truth: bool) -> list[tuple[Symbol, str]]:
    present = {box.label for box in result.boxes}
    names = [name for name in CLASSES if name in present] + sorted(present - CLASSES.keys())
    entries = [(_area(class_color(name)), _spaced(name)) for name in names]
    if any(box.motion for box in result.boxes):
        entries.append((_path(MUTED, 2, alpha=0.7), "forecast modes"))
    if result.boxes:
        entries.append((_velocity, "velocity, 1 s"))
    if with_truth:
        entries.append((_truth, "ground truth"))
    return entries


def _area(color: Color) -> Symbol:
    def draw(picture: Picture, u: float, v: float) -> None:
        fill(picture, np.array([(u, v - 6), (u + _SYMBOL, v - 6), (u + _SYMBOL, v + 6), (u, v + 6)]), color)

    return draw


def _path(color: Color, width: int, alpha: float = 1.0) -> Symbol:
    def draw(picture: Picture, u: float, v: float) -> None:
        stroke(picture, np.array([(u, v), (u + _SYMBOL - 4, v)]), color, width, alpha)
        dot(picture, np.array([u + _SYMBOL - 3, v]), 3.0, color, alpha)

    return draw


def _time_scale(steps: int) -> Symbol:
    def draw(picture: Picture, u: float, v: float) -> None:
        for step in range(steps):
            start, end = (u + _SYMBOL * i / steps for i in (step, step + 1))
            box = np.array([(start, v - 6), (end, v - 6), (end, v + 6), (start, v + 6)])
            fill(picture, box, mixed(PANEL, occupancy_color(step, steps), 0.9))

    return draw


def _velocity(picture: Picture, u: float, v: float) -> None:
    arrow(picture, np.array([u, v]), np.array([u + _SYMBOL, v]), INK, 1)


def _truth(picture: Picture, u: float, v: float) -> None:
    corners = np.array([(u + 1, v - 5), (u + _SYMBOL - 1, v - 5), (u + _SYMBOL - 1, v + 5), (u + 1, v + 5)])
    dash(picture, outline(corners), TRUTH, period=5)


def _spaced(name: str) -> str:
    return name.replace("_", " ")
