"""A level camera in the town: projection, clipping at the near plane, drawing of shaded polygons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.synthetic.rendering.light import HAZE, HAZE_METRES, SUN
from toolkit.synthetic.world.geometry import Array
from toolkit.synthetic.world.paint import Color

NEAR = 0.25
"""Nothing nearer than this is drawn, metres along the optical axis."""
SUBPIXEL = 4
"""Bits of the fraction in drawing coordinates."""
_LIMIT = 2.0e4
"""Pixel coordinates beyond this are cut off."""
_AMBIENT, _FULL = 0.62, 1.08
"""Brightness in the shade, and facing the sun."""
_SUN = tuple(SUN.tolist())

BGR = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class PlacedCamera:
    """A camera's picture; intrinsics [3, 3], axes [3, 3] (columns right, down, forward) and place [3] in the town."""

    intrinsics: Array
    axes: Array
    place: Array
    image: NDArray[np.uint8]

    @cached_property
    def yaw(self) -> float:
        return math.atan2(self.axes[1, 2], self.axes[0, 2])

    @cached_property
    def towards(self) -> tuple[float, ...]:
        """The direction from what is seen to the camera."""
        return tuple((-self.axes[:, 2]).tolist())

    @cached_property
    def half_angle(self) -> float:
        """Half the horizontal field of view, radians, at the wider side."""
        side = max(self.intrinsics[0, 2], self.image.shape[1] - self.intrinsics[0, 2])
        return math.atan(side / self.intrinsics[0, 0])

    def covers(self, places: Array, radii: Array) -> NDArray[np.bool_]:
        """[n]: whether upright things at `places` [n, 2] within `radii` [n] may be in the picture."""
        offset = places - self.place[:2]
        forward = offset @ self.axes[:2, 2]
        sideways = np.abs(offset @ self.axes[:2, 0])
        cos, sin = math.cos(self.half_angle), math.sin(self.half_angle)
        seen: NDArray[np.bool_] = (forward > NEAR - radii) & (sideways * cos - forward * sin < radii)
        return seen

    def to_camera(self, points: Array) -> Array:
        """Points [..., 3] of the town in the camera frame."""
        return (points - self.place) @ self.axes

    def pixels(self, points: Array) -> Array:
        """[..., 2]: where points of the camera frame, in front of the near plane, are in the picture."""
        scale = np.array([self.intrinsics[0, 0], self.intrinsics[1, 1]])
        found: Array = points[..., :2] / points[..., 2:] * scale + self.intrinsics[:2, 2]
        return found

    def misses(self, polygon: Array) -> bool:
        """Whether a polygon [n, 3] of the camera frame is behind the camera, or quite to the left or right of it."""
        if polygon[:, 2].min() < NEAR:
            return bool(polygon[:, 2].max() < NEAR)
        columns = self.pixels(polygon)[:, 0]
        return bool(columns.max() < 0 or columns.min() > self.image.shape[1])

    def fill(self, polygon: Array, color: BGR) -> None:
        """Fill a convex polygon [n, 3] of the camera frame, as far as it lies in front."""
        if polygon[:, 2].min() < NEAR:
            polygon = clip(polygon)
        if len(polygon) > 2:
            cv2.fillConvexPoly(self.image, drawing_points(self.pixels(polygon)), color, cv2.LINE_AA, SUBPIXEL)

    def billboard(self, place: Array, outline: Sequence[tuple[float, float]], color: Color) -> None:
        """Fill a convex polygon (sideways, up in metres) that stands at `place` [2] and faces the camera."""
        points = np.array(outline)
        foot = np.array([place[0], place[1], 0.0])
        world = foot + points[:, :1] * self.axes[:, 0] + points[:, 1:] * np.array([0.0, 0.0, 1.0])
        self.fill(self.to_camera(world), tone(color, self.towards, self.distance(place)))

    def distance(self, place: Array) -> float:
        """Horizontal distance to `place` [2 or 3], metres."""
        return math.hypot(place[0] - self.place[0], place[1] - self.place[1])

    def outline(self, corners: Array) -> Array | None:
        """[n, 2]: the outline in the picture of a box with corners [8, 3] in the town (4 below, 4 above them); None if
        it is behind the camera.
        """
        corners = self.to_camera(corners)
        if corners[:, 2].min() < NEAR:
            quads = ((0, 1, 2, 3), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7))
            corners = np.concatenate([clip(corners[list(quad)]) for quad in quads])
        if len(corners) < 3:
            return None
        pixels = np.clip(self.pixels(corners), -_LIMIT, _LIMIT).astype(np.float32)
        return np.asarray(cv2.convexHull(pixels), np.float64)[:, 0]

    def discs(self, centers: Array, radius: float, colors: Sequence[Sequence[float]]) -> None:
        """Fill discs that face the camera, the farthest first: centres [n, 3] in the camera frame, radius in metres."""
        depth = centers[:, 2]
        if depth.min() > 2 * NEAR:
            points = drawing_points(self.pixels(centers)).tolist()
            sizes = (radius * self.intrinsics[0, 0] / depth * 2**SUBPIXEL).round().astype(int).tolist()
            for i in np.argsort(-depth, kind="stable").tolist():
                cv2.circle(self.image, points[i], sizes[i], colors[i], cv2.FILLED, cv2.LINE_AA, SUBPIXEL)


def drawing_points(pixels: Array) -> NDArray[np.int32]:
    """Pixels as OpenCV wants them with a fraction."""
    points: NDArray[np.int32] = (np.minimum(np.maximum(pixels, -_LIMIT), _LIMIT) * 2**SUBPIXEL).round().astype(np.int32)
    return points


def clip(polygon: Array) -> Array:
    """The part of a convex polygon [n, 3] in front of the near plane (Sutherland-Hodgman)."""
    kept = []
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if a[2] >= NEAR:
            kept.append(a)
        if (a[2] >= NEAR) != (b[2] >= NEAR):
            kept.append(a + (b - a) * (NEAR - a[2]) / (b[2] - a[2]))
    return np.array(kept).reshape(-1, 3)


def shaded(rgb: Array, normals: Array, distance: float) -> Array:
    """[..., 3]: colours (red, green, blue) in the sun with haze before them, as blue, green, red."""
    light = _AMBIENT + (_FULL - _AMBIENT) * np.maximum(normals @ SUN, 0.0)[..., None]
    clear = math.exp(-distance / HAZE_METRES)
    color: Array = np.minimum(rgb[..., ::-1] * light, 255.0) * clear + np.array(HAZE) * (1 - clear)
    return color


def tone(rgb: Color, normal: Sequence[float], distance: float, share: float = 1.0) -> BGR:
    """`shaded` for one colour, made darker by `share`."""
    light = share * (_AMBIENT + (_FULL - _AMBIENT) * max(0.0, sum(n * s for n, s in zip(normal, _SUN, strict=True))))
    clear = math.exp(-distance / HAZE_METRES)
    r, g, b = (min(c * light, 255.0) * clear for c in rgb)
    return tuple(c + h * (1 - clear) for c, h in zip((b, g, r), HAZE, strict=True))
