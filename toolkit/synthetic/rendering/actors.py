"""Drawing actors into a view: vehicles as meshes, people and two-wheelers as flat figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from toolkit.synthetic.rendering.mesh import Mesh
from toolkit.synthetic.rendering.view import BGR, NEAR, SUBPIXEL, PlacedCamera, drawing_points, shaded, tone
from toolkit.synthetic.traffic.actors import BICYCLE, MOTORCYCLE, Actor
from toolkit.synthetic.world.geometry import Array
from toolkit.synthetic.world.paint import Color

_SKIN: Color = (198, 152, 122)
_DARK: Color = (38, 38, 42)
_VEST: Color = (234, 138, 30)
_STEP_METRES = 0.75


def draw_mesh(view: PlacedCamera, mesh: Mesh, pose: Array) -> None:
    """A mesh at a pose (x, y, yaw)."""
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    place = np.array([pose[0], pose[1], 0.0])
    points = view.to_camera(mesh.points @ turn.T + place)
    normals = mesh.normals @ turn.T
    first = mesh.points[mesh.starts[:-1]] @ turn.T + place
    faces = ((view.place - first) * normals).sum(axis=-1) > 0
    colors = shaded(mesh.colors, normals, view.distance(pose)).tolist()
    away = np.linalg.norm(mesh.centers @ turn.T + place - view.place, axis=-1)
    in_front = points[:, 2].min() >= NEAR
    pixels = drawing_points(view.pixels(points)) if in_front else None
    for part in np.argsort(-away, kind="stable"):
        for i in np.flatnonzero(faces & (mesh.parts == part)).tolist():
            begin, end = mesh.starts[i], mesh.starts[i + 1]
            if pixels is not None:
                cv2.fillConvexPoly(view.image, pixels[begin:end], colors[i], cv2.LINE_AA, SUBPIXEL)
            else:
                view.fill(points[begin:end], colors[i])


def draw_flat_actor(view: PlacedCamera, actor: Actor, pose: Array, walked: float) -> None:
    """A person or a two-wheeler; `walked` metres move the legs."""
    if actor.kind in (BICYCLE, MOTORCYCLE):
        _two_wheeler(view, actor, pose)
        if not actor.stays:
            _person(view, pose[:2], (0.2 * actor.size[2], actor.size[2]), actor.color, walked, seated=True)
    else:
        color = _VEST if actor.kind.category.endswith("worker") else actor.color
        _person(view, pose[:2], (0.0, actor.size[2]), color, walked, seated=False)


def _person(
    view: PlacedCamera, place: Array, height: tuple[float, float], color: Color, walked: float, *, seated: bool
) -> None:
    low, tall = height[0], height[1] - height[0]
    swing = 0.0 if seated else 0.13 * math.sin(walked / _STEP_METRES * math.pi)
    hip, neck = low + 0.47 * tall, low + 0.84 * tall
    for side, s in ((-1, swing), (1, -swing)):
        leg = [(side * 0.02, hip), (side * 0.17, hip), (side * 0.13 + s, low), (side * 0.03 + s, low)]
        view.billboard(place, leg, _DARK)
    for side, s in ((-1, -swing), (1, swing)):
        arm = [(side * 0.2, neck - 0.02), (side * 0.29, neck - 0.06), (side * 0.29 + s, hip - 0.02),
               (side * 0.22 + s, hip)]  # fmt: skip
        view.billboard(place, arm, color)
    torso = [(-0.18, hip - 0.03), (0.18, hip - 0.03), (0.22, neck - 0.03), (0.1, neck), (-0.1, neck),
             (-0.22, neck - 0.03)]  # fmt: skip
    view.billboard(place, torso, color)
    head = np.array([place[0], place[1], low + 0.92 * tall])
    size = max(0.062 * tall, 0.095)
    distance = view.distance(place)
    for offset, shade, radius in ((0.012, _DARK, size + 0.01), (0.0, _SKIN, size)):
        center = head + np.array([0.0, 0.0, offset])
        view.discs(view.to_camera(center)[None], radius, [tone(shade, view.towards, distance)])


def _two_wheeler(view: PlacedCamera, actor: Actor, pose: Array) -> None:
    _, length, height = actor.size
    along = np.array([math.cos(pose[2]), math.sin(pose[2]), 0.0])
    across = np.array([-along[1], along[0], 0.0])
    motor = actor.kind is MOTORCYCLE
    radius = (0.15 if motor else 0.19) * length
    distance = view.distance(pose)
    color, dark = (tone(paint, view.towards, distance) for paint in (actor.color, _DARK))
    foot = np.array([pose[0], pose[1], 0.0])

    def upright(outline: Sequence[tuple[float, float]], paint: BGR, thick: float) -> None:
        """An outline (forward, up) along the bike, with a thickness that keeps it visible from the front."""
        points = np.array(outline)
        plane = foot + points[:, :1] * along + points[:, 1:] * np.array([0, 0, 1.0])
        for side in (-thick, thick):
            view.fill(view.to_camera(plane + side * across), paint)
        low, high = points[:, 1].min(), points[:, 1].max()
        slab = [(-thick, low), (thick, low), (thick, high), (-thick, high)]
        middle = foot + points[:, 0].mean() * along
        face = np.array([middle + a * across + (0, 0, b) for a, b in slab])
        view.fill(view.to_camera(face), paint)

    for x in (-length / 2 + radius, length / 2 - radius):
        circle = [(x + radius * math.cos(a), radius + radius * math.sin(a)) for a in np.linspace(0, 6.0, 12)]
        upright(circle, dark, 0.07 if motor else 0.025)
    top = 0.52 * height
    frame = [(-0.3 * length, radius * 1.2), (0.12 * length, radius * 0.9), (0.3 * length, top), (-0.28 * length, top)]
    slim = [(-0.2 * length, top), (0.0, radius), (0.05 * length, radius), (0.28 * length, top * 1.05)]
    upright(frame if motor else slim, color, 0.14 if motor else 0.03)
    bar = foot + 0.26 * length * along + np.array([0, 0, top * 1.12])
    grip = np.array([bar - 0.28 * across, bar + 0.28 * across, bar + 0.28 * across + (0, 0, 0.05),
                     bar - 0.28 * across + (0, 0, 0.05)])  # fmt: skip
    view.fill(view.to_camera(grip), dark)
