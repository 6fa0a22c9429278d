"""Text on pictures, and labels that keep out of each other's way."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from toolkit.text import shown
from toolkit.visualize.canvas import Picture
from toolkit.visualize.palette import GROUND, INK, Color

Align = Literal["left", "center", "right"]
Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are outside."""
_ASCENT, _LINE = 0.95, 1.25
"""Of the size: from the top of a line of text to the letters' feet, and to the next line."""


@dataclass(frozen=True)
class Label:
    """A short text with the places for it, best first: each the middle of its lower edge."""

    text: str
    places: tuple[tuple[float, float], ...]
    color: Color


def write(
    picture: Picture,
    text: str,
    at: tuple[float, float],
    size: int,
    color: Color = INK,
    *,
    align: Align = "left",
    bold: bool = False,
    halo: bool = False,
) -> int:
    """Write a line at (u, v), v its middle; return its width in pixels. A halo keeps it legible on anything."""
    ink, outline = _ink(shown(text), size, bold)
    height, width = ink.shape
    left = round(at[0]) - {"left": 2, "center": width // 2, "right": width - 2}[align]
    top = round(at[1]) - height // 2
    if halo:
        _stamp(picture, outline, left, top, GROUND)
    _stamp(picture, ink, left, top, color)
    return int(width) - 4


def text_width(text: str, size: int, bold: bool = False) -> int:
    """In pixels."""
    width = int(_ink(shown(text), size, bold)[0].shape[1])
    return width - 4


def shortened(text: str, size: int, width: int) -> str:
    """The text, or as much of its beginning as fits into `width` pixels."""
    text = shown(text)
    if text_width(text, size) <= width:
        return text
    kept = bisect_right(range(1, len(text)), width, key=lambda n: text_width(f"{text[:n]}…", size))
    return f"{text[:kept]}…"


def place_labels(picture: Picture, labels: Iterable[Label], size: int, taken: Iterable[Rectangle] = ()) -> None:
    """Write labels on dark plates, the first ones first; one that finds no free place is left out.

    Places in `taken` are not free.
    """
    height, width, _ = picture.shape
    taken = list(taken)
    for label in labels:
        half, tall = text_width(label.text, size) // 2 + 3, round(_LINE * size)
        for u, v in label.places:
            left = round(min(max(u - half, 0), width - 2 * half))
            top = round(v) - tall
            plate = (left, top, left + 2 * half, top + tall)
            inside = left >= 0 and top >= 0 and top + tall <= height
            if inside and not any(_overlap(plate, other) for other in taken):
                taken.append(plate)
                part = picture[top : top + tall, left : left + 2 * half]
                part[:] = cv2.addWeighted(part, 0.25, np.full_like(part, GROUND), 0.75, 0)
                write(picture, label.text, (left + half, top + tall / 2), size, label.color, align="center")
                break


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _stamp(picture: Picture, mask: NDArray[np.uint8], left: int, top: int, color: Color) -> None:
    """Lay a colour on the picture as far as `mask` [height, width] says, of 255."""
    rows, columns = slice(max(top, 0), max(top + mask.shape[0], 0)), slice(max(left, 0), max(left + mask.shape[1], 0))
    part = picture[rows, columns]
    if part.size:
        inside = mask[rows.start - top :, columns.start - left :][: part.shape[0], : part.shape[1]]
        share = inside[..., None].astype(np.float32) / 255
        part[:] = np.rint(part * (1 - share) + np.array(color, np.float32) * share).astype(np.uint8)


@lru_cache(maxsize=4096)
def _ink(text: str, size: int, bold: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Masks of a line of text and of its outline, with 2 pixels around it."""
    font = _font(size, bold)
    image = Image.new("L", (max(round(font.getlength(text)), 1) + 4, round(_LINE * size) + 4))
    ImageDraw.Draw(image).text((2, 2 + round(_ASCENT * size)), text, 255, font, anchor="ls")
    ink = np.asarray(image, np.uint8)
    return ink, np.asarray(cv2.dilate(ink, np.ones((3, 3), np.uint8)), np.uint8)


@lru_cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """The font that comes with Matplotlib, so that pictures look alike on every machine."""
    import matplotlib  # a fifth of what `run` imports, and of no use to a process that draws nothing

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
