"""The nearest objects in rows: what a label beside a box has no room for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from toolkit.runtime.results import TrackedBox
from toolkit.visualize.canvas import Picture
from toolkit.visualize.ego import distance, nearest_first
from toolkit.visualize.lettering import Align, shortened, write
from toolkit.visualize.palette import INK, MUTED, Color, class_color

_SIZE, _LINE = 12, 19
"""Pixels: of text, and from line to line."""
_LABEL_WIDTH = 220
"""Pixels that the name of a class has room for."""
_COLUMNS: tuple[tuple[str, float, Align], ...] = (
    ("id", 0.0, "left"),
    ("class", 0.12, "left"),
    ("score", 0.54, "right"),
    ("distance", 0.72, "right"),
    ("speed", 0.88, "right"),
)
"""Heading, place as a share of the width, and side of the place that texts end at."""


def draw_nearest(picture: Picture, boxes: Sequence[TrackedBox], left: int, top: int, width: int, height: int) -> None:
    """As many of the `boxes` as there is room for, the nearest first: id, class, score, distance (m), speed (m/s)."""
    if not boxes:
        return
    shown = nearest_first(boxes)[: height // _LINE - 1]
    _write_row(picture, [heading for heading, _, _ in _COLUMNS], left, top, width, bold=True)
    for i, (box, texts) in enumerate(zip(shown, rows_of(shown), strict=True), start=1):
        _write_row(picture, texts, left, top + i * _LINE, width, id_color=class_color(box.label))


def rows_of(boxes: Sequence[TrackedBox]) -> list[tuple[str, ...]]:
    """The texts of all rows, the nearest object first."""
    return [
        (
            str(box.track_id),
            shortened(box.label.replace("_", " "), _SIZE, _LABEL_WIDTH),
            f"{box.score:.2f}",
            f"{distance(box):.1f} m",
            f"{np.hypot(*box.velocity):.1f} m/s",
        )
        for box in nearest_first(boxes)
    ]


def _write_row(
    picture: Picture, texts: Sequence[str], left: int, top: int, width: int, id_color: Color = INK, bold: bool = False
) -> None:
    for i, (text, (_, place, align)) in enumerate(zip(texts, _COLUMNS, strict=True)):
        at = (left + place * width, top + _LINE / 2)
        write(picture, text, at, _SIZE, INK if bold else id_color if i == 0 else MUTED, align=align, bold=bold)
