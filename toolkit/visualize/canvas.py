"""Antialiased shapes with transparency on pictures: RGB arrays [height, width, 3] of uint8, drawn on in place.

Points are (u, v) in pixels, u to the right and v down, and may lie between and outside pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.visualize.palette import Color

Picture = NDArray[np.uint8]
Points = NDArray[np.float64]

_SHIFT = 4
"""Binary digits after the point in coordinates given to OpenCV."""
_FARTHEST = 1e6
"""Pixels; with the digits after the point that OpenCV's 32 bits hold."""


def blank(width: int, height: int, color: Color) -> Picture:
    """A picture of one colour."""
    row = np.full((1, width, 3), color, np.uint8)
    return np.repeat(row, height, axis=0)


def fill(picture: Picture, corners: Points, color: Color, alpha: float = 1.0) -> None:
    """A filled convex polygon [n, 2]."""

    def draw(target: Picture, points: NDArray[np.int32]) -> None:
        cv2.fillConvexPoly(target, points, color, cv2.LINE_AA, _SHIFT)

    _blend(picture, corners, 1, alpha, draw)


def stroke(
    picture: Picture, points: Points, color: Color, width: int = 1, alpha: float = 1.0, closed: bool = False
) -> None:
    """A line through `points` [n, 2]."""

    def draw(target: Picture, moved: NDArray[np.int32]) -> None:
        cv2.polylines(target, [moved], closed, color, width, cv2.LINE_AA, _SHIFT)

    _blend(picture, points, width + 1, alpha, draw)


def dash(picture: Picture, segments: Points, color: Color, period: float = 7.0) -> None:
    """Dashed lines [n, 2, 2]: of every `period` pixels the larger part is drawn."""
    parts = []
    for start, end in _near(segments):
        length = float(np.linalg.norm(end - start))
        begins = np.arange(0.0, length, period)[:, None, None]
        share = np.concatenate([begins, np.minimum(begins + 0.6 * period, length)], axis=1) / max(length, 1e-6)
        parts.append(start + share * (end - start))
    if parts:
        cv2.polylines(picture, list(_fixed(np.concatenate(parts))), False, color, 1, cv2.LINE_AA, _SHIFT)


def arrow(picture: Picture, start: Points, tip: Points, color: Color, width: int = 1, head: float = 6.0) -> None:
    """A line that ends in a filled head, `head` pixels long or half the arrow."""
    along = tip - start
    length = math.hypot(*along)
    if length < 1:
        return
    along = along / length
    head = min(head, length / 2)
    neck, side = tip - head * along, 0.5 * head * np.array([-along[1], along[0]])
    stroke(picture, np.array([start, neck]), color, width)
    fill(picture, np.array([tip, neck + side, neck - side]), color)


def dot(picture: Picture, center: Points, radius: float, color: Color, alpha: float = 1.0) -> None:
    """A filled circle."""

    def draw(target: Picture, points: NDArray[np.int32]) -> None:
        middle = (int(points[0, 0]), int(points[0, 1]))
        cv2.circle(target, middle, round(radius * 2**_SHIFT), color, cv2.FILLED, cv2.LINE_AA, _SHIFT)

    _blend(picture, center[None], round(radius) + 2, alpha, draw)


def ring(picture: Picture, center: Points, radius: float, color: Color, alpha: float = 1.0) -> None:
    """A circle."""
    angles = np.linspace(0, 2 * np.pi, 73)
    stroke(picture, center + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1), color, 1, alpha, closed=True)


def outline(corners: Points) -> Points:
    """The sides [n, 2, 2] of a polygon [n, 2]."""
    return np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)


def paste(picture: Picture, part: Picture, left: int, top: int) -> None:
    """Put another picture onto this one."""
    picture[top : top + part.shape[0], left : left + part.shape[1]] = part


def _blend(picture: Picture, points: Points, margin: int, alpha: float, draw: Callable[[Picture, Any], None]) -> None:
    """Draw on a copy of the part of the picture around `points`, and mix that with the picture."""
    points = _near(points)
    if alpha >= 1:
        draw(picture, _fixed(points))
        return
    left, top = (max(math.floor(place) - margin, 0) for place in np.minimum.reduce(points).tolist())
    right, bottom = (max(math.ceil(place) + margin + 1, 0) for place in np.maximum.reduce(points).tolist())
    part = picture[top:bottom, left:right]
    if part.size:
        drawn = part.copy()
        draw(drawn, _fixed(points - (left, top)))
        cv2.addWeighted(part, 1 - alpha, drawn, alpha, 0, dst=part)


# A frame has thousands of short calls: numpy's functions around its ufuncs would take most of the time.
def _near(points: Points) -> Points:
    """The points, those far away moved to where OpenCV can still count."""
    return np.asarray(np.minimum(np.maximum(points, -_FARTHEST), _FARTHEST))


def _fixed(points: Points) -> NDArray[np.int32]:
    return np.asarray(np.rint(points * 2**_SHIFT).astype(np.int32))
