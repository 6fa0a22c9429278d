"""Drawing what stands beside the roads into a view: houses, trees, poles."""

from __future__ import annotations

import math

import cv2
import numpy as np

from toolkit.synthetic.rendering.view import BGR, NEAR, SUBPIXEL, PlacedCamera, drawing_points, shaded, tone
from toolkit.synthetic.world.geometry import Array
from toolkit.synthetic.world.paint import Color
from toolkit.synthetic.world.scenery import Building, Pole, Tree

_PANE: Color = (70, 84, 98)
_FRAME: Color = (226, 222, 212)
_FRAME_WIDTH = 0.09
_METAL: Color = (92, 96, 98)
_TRUNK: Color = (82, 66, 54)
_HEAD: Color = (38, 38, 42)
_LIGHTS: tuple[tuple[float, Color], ...] = ((0.2, (96, 34, 30)), (0.55, (244, 176, 44)), (0.9, (28, 84, 50)))
"""Metres below a traffic light's top, colour: the one in the middle blinks."""
_WINDOWS_METRES = 110.0
"""From farther away houses show no windows."""
_FRAMES_METRES = 40.0
"""From farther away their windows have no frames."""
_LEAVES = ((22.0, 150, 0.22), (45.0, 60, 0.34), (math.inf, 18, 0.55))
"""Up to a distance in metres: discs in a crown, and their size relative to it."""


def draw_building(view: PlacedCamera, building: Building, foot: Array) -> None:
    """A house on its foot [4, 2]; its front looks in the direction of its pose."""
    height = building.size[2]
    distance = view.distance(building.pose)
    for i in range(4):
        a, b = foot[i], foot[(i + 1) % 4]
        across = np.array([b[1] - a[1], a[0] - b[0]]) / np.hypot(*(b - a))
        normal = (*across.tolist(), 0.0)
        wall = view.to_camera(_wall(a, b, 0.0, height))
        if (view.place[:2] - a) @ across <= 0 or view.misses(wall):
            continue
        view.fill(wall, tone(building.color, normal, distance))
        for low, high, share in ((height - 0.35, height, 0.78), (0.0, 0.5, 0.62)):  # cornice and plinth
            view.fill(view.to_camera(_wall(a, b, low, high)), tone(building.color, normal, distance, share))
        if distance < _WINDOWS_METRES:
            frame = tone(_FRAME, normal, distance) if distance < _FRAMES_METRES else None
            _windows(view, building, a, b, tone(_PANE, normal, distance), frame)


def _wall(a: Array, b: Array, low: float, high: float) -> Array:
    return np.array([(*a, low), (*b, low), (*b, high), (*a, high)])


def _windows(view: PlacedCamera, building: Building, a: Array, b: Array, color: BGR, frame: BGR | None) -> None:
    """Panes in rows and columns on the wall from `a` to `b` [2], in frames if these have a colour."""
    length, storey = float(np.hypot(*(b - a))), (building.size[2] - 0.8) / building.storeys
    pitch, share = ((2.4, 0.5), (3.2, 0.62), (1.9, 0.7))[building.style]
    count = max(1, int((length - 0.8) // pitch))
    begin = (length - count * pitch) / 2 + (np.arange(count) + (1 - share) / 2) * pitch
    low = (np.arange(building.storeys) + 0.3) * storey + 0.2
    left, bottom = (grid.ravel() for grid in np.meshgrid(begin, low))
    size = np.array([share * pitch, 0.55 * storey])
    if frame is not None:
        _panes(view, (a, b), np.stack([left, bottom], axis=-1) - _FRAME_WIDTH, size + 2 * _FRAME_WIDTH, frame)
        half = np.array([size[0] / 2 - _FRAME_WIDTH / 4, 0.0])
        _panes(view, (a, b), np.stack([left, bottom], axis=-1), size - half, color)
        _panes(view, (a, b), np.stack([left, bottom], axis=-1) + half, size - half, color)
    else:
        _panes(view, (a, b), np.stack([left, bottom], axis=-1), size, color)


def _panes(view: PlacedCamera, wall: tuple[Array, Array], corner: Array, size: Array, color: BGR) -> None:
    """Rectangles with lower left corners [n, 2] (along the wall, up in metres), all of a size [2]."""
    a, b = wall
    places = corner[:, None] + np.array(((0, 0), (1, 0), (1, 1), (0, 1))) * size
    along = places[..., :1] / np.hypot(*(b - a))
    points = view.to_camera(np.concatenate([a + along * (b - a), places[..., 1:]], axis=-1))
    shown = points[points[..., 2].min(axis=1) >= NEAR]
    if len(shown):
        cv2.fillPoly(view.image, list(drawing_points(view.pixels(shown))), color, cv2.LINE_AA, SUBPIXEL)


def draw_tree(view: PlacedCamera, tree: Tree) -> None:
    """A trunk and a crown of discs, lighter towards the sun."""
    rng = np.random.Generator(np.random.PCG64(tree.shape))
    place = np.array([tree.x, tree.y])
    distance = view.distance(place)
    width = 0.022 * tree.height
    view.billboard(place, [(-width, 0), (width, 0), (width, 0.6 * tree.height), (-width, 0.6 * tree.height)],
               _TRUNK)  # fmt: skip
    radius = 0.27 * tree.height
    count, size = next((count, size) for reach, count, size in _LEAVES if distance < reach)
    middle = np.array([tree.x, tree.y, 0.68 * tree.height])
    directions = rng.uniform(-1, 1, (count, 3))
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 0.8)
    greens = np.array((112, 142, 70)) * (0.8 + 0.3 * directions[:, 2:] + 0.1 * rng.uniform(-1, 1, (count, 1)))
    colors = shaded(np.asarray(greens, np.float64), directions, distance)
    points = view.to_camera(middle + directions * radius * (0.85, 0.85, 1.0))
    view.discs(points, size * radius, colors.tolist())


def draw_pole(view: PlacedCamera, pole: Pole) -> None:
    """A street lamp, or a traffic light that blinks amber."""
    place = np.array([pole.x, pole.y])
    top = 4.6 if pole.signal else 7.5
    view.billboard(place, [(-0.07, 0), (0.07, 0), (0.05, top), (-0.05, top)], _METAL)
    pointing = np.array([math.cos(pole.yaw), math.sin(pole.yaw)])
    if pole.signal:
        toward = pointing @ (view.place[:2] - place) > 0
        head = [(-0.2, top - 1.1), (0.2, top - 1.1), (0.2, top), (-0.2, top)]
        view.billboard(place, head, _HEAD)
        for up, color in _LIGHTS:
            if toward:
                center = np.array([*place, top - up]) + 0.05 * np.array([*pointing, 0])
                view.discs(view.to_camera(center)[None], 0.13, [color[::-1]])
    else:
        tip = place + 1.8 * pointing
        arm = np.array([(*place, top - 0.12), (*tip, top), (*tip, top + 0.1), (*place, top)])
        distance = view.distance(place)
        view.fill(view.to_camera(arm), tone(_METAL, view.towards, distance))
