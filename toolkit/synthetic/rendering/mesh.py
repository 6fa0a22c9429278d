"""Meshes of flat convex faces, and how they are put together from boxes and extruded profiles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.synthetic.world.geometry import Array
from toolkit.synthetic.world.paint import Color

Profile = Sequence[tuple[float, float]]


_MIRROR = np.array([1.0, -1.0, 1.0])
"""From the left side to the right one."""


@dataclass(frozen=True, eq=False)
class Face:
    """A flat convex polygon [n, 3] with its outward normal [3]. Decals lie on another face and come after it."""

    points: Array
    normal: Array
    color: Color


Part = list[Face]
"""Faces of one convex body and the decals on it."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Faces flattened for drawing: face i has the points `starts[i]`:`starts[i + 1]`, belongs to part `parts[i]`."""

    points: Array
    starts: NDArray[np.int64]
    normals: Array
    colors: Array
    parts: NDArray[np.int64]
    centers: Array
    """[parts, 3]."""


def join(parts: Iterable[Part]) -> Mesh:
    """One mesh of several convex parts that do not overlap."""
    bodies = list(parts)
    faces = [face for part in bodies for face in part]
    return Mesh(
        points=np.concatenate([face.points for face in faces]),
        starts=np.cumsum([0, *(len(face.points) for face in faces)]),
        normals=np.array([face.normal for face in faces]),
        colors=np.array([face.color for face in faces], np.float64),
        parts=np.repeat(np.arange(len(bodies)), [len(part) for part in bodies]),
        centers=np.array([np.concatenate([face.points for face in part]).mean(axis=0) for part in bodies]),
    )


def face(points: Array | Sequence[tuple[float, float, float]], outward: Sequence[float], color: Color) -> Face:
    """A face whose normal is on the side of `outward`."""
    array = np.asarray(points, np.float64)
    normal = np.cross(array[1] - array[0], array[2] - array[1])
    normal = normal / (np.linalg.norm(normal) + 1e-12)
    return Face(array, normal if normal @ np.asarray(outward) > 0 else -normal, color)


def extrude(profile: Profile, bottom_half: float, top_half: float, color: Color) -> Part:
    """A convex side profile (x, z), counter-clockwise, with a width that goes from its lowest to its highest point."""
    xz = np.array(profile, np.float64)
    low, high = xz[:, 1].min(), xz[:, 1].max()
    half = bottom_half + (top_half - bottom_half) * (xz[:, 1] - low) / (high - low)
    left = np.stack([xz[:, 0], half, xz[:, 1]], axis=-1)
    right = left * _MIRROR
    part = [face(left, (0, 1, 0), color), face(right, (0, -1, 0), color)]
    center = left.mean(axis=0) * np.array([1.0, 0.0, 1.0])
    for i in range(len(xz)):
        j = (i + 1) % len(xz)
        side: Array = np.concatenate([left[[i, j]], right[[j, i]]])
        part.append(face(side, tuple(side.mean(axis=0) - center), color))
    return part


def box(x: tuple[float, float], half: float, z: tuple[float, float], color: Color) -> Part:
    """A box symmetric about y = 0."""
    return extrude([(x[0], z[0]), (x[1], z[0]), (x[1], z[1]), (x[0], z[1])], half, half, color)


def side_decal(profile: Profile, half: float, color: Color) -> Part:
    """A polygon (x, z) on both sides of a body, `half` metres from its middle."""
    left = np.array([(x, half, z) for x, z in profile])
    return [face(left, (0, 1, 0), color), face(left * _MIRROR, (0, -1, 0), color)]


def end_decal(x: float, y: tuple[float, float], z: tuple[float, float], color: Color) -> Face:
    """A rectangle on the front (x > 0) or the back of a body."""
    points = [(x, y[0], z[0]), (x, y[1], z[0]), (x, y[1], z[1]), (x, y[0], z[1])]
    return face(points, (math.copysign(1.0, x), 0, 0), color)


def wheels(places: Iterable[float], radius: float, half: float) -> Part:
    """Wheels on both sides at several x, as decals."""
    circle = [(math.cos(a), math.sin(a)) for a in np.linspace(0, 2 * math.pi, 12, endpoint=False).tolist()]
    part: Part = []
    for place in places:
        tyre = [(place + radius * c, radius + radius * s) for c, s in circle]
        hub = [(place + 0.55 * radius * c, radius + 0.55 * radius * s) for c, s in circle]
        part += side_decal(tyre, half, (24, 24, 26)) + side_decal(hub, half + 0.005, (128, 130, 134))
    return part
