"""What one camera sees, with the results projected into its picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from toolkit.config.model import ImageConfig
from toolkit.data.annotations import Annotation
from toolkit.data.frames import Float64Array, Frame
from toolkit.data.preprocess import read_jpeg
from toolkit.runtime.results import FrameResult, PlanResult, TrackedBox
from toolkit.visualize.canvas import Picture, arrow, dash, dot, fill, stroke
from toolkit.visualize.ego import EGO_SIZE, SLOW, nearest_first, smooth_path
from toolkit.visualize.lettering import Label, place_labels, write
from toolkit.visualize.palette import GROUND, INK, PLAN, TRUTH, class_color
from toolkit.visualize.projection import (
    NEAR,
    box_corners,
    ground_height,
    lidar_to_picture,
    project,
    project_segments,
)

_PAIRS = np.array([(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)])
"""Pairs of a box's corners; `box_corners` numbers them."""
_FRONT = [0, 1, 5, 4]
_LABEL_SIZE = 11
_MOST_LABELS = 12
"""In one picture, those of the nearest: farther ones only hide what they stand for."""
_RIBBON = 0.7
"""Of the ego's width: so the road stays visible beside it."""
_FIRST_METRES = 3.0
"""The plan is drawn from the ego's front bumper on, not from below the roof."""


def draw_camera(
    frame: Frame,
    camera: str,
    result: FrameResult,
    config: ImageConfig,
    width: int,
    annotations: Sequence[Annotation] = (),
    mirrored: bool = False,
) -> Picture:
    """The camera's picture, `width` pixels wide, with boxes, ids and scores, velocities and the plan on the ground.

    Ground truth is dashed. A `mirrored` picture is what a mirror in the camera's place shows to who looks ahead.
    Raises InputError if the image cannot be read.
    """
    picture = _image(frame, camera, width)
    matrix = lidar_to_picture(frame, camera, config, width)
    if mirrored:
        picture = np.ascontiguousarray(picture[:, ::-1])
        matrix = np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]]) @ matrix
    for annotation in annotations:
        dash(picture, _edges(picture, matrix, annotation), TRUTH)
    if result.plan is not None:
        _draw_plan(picture, matrix, frame, result.plan)
    nearest_last = reversed(nearest_first(result.boxes))
    labels = [label for box in nearest_last for label in _draw_box(picture, matrix, box)]
    place_labels(picture, labels[: -_MOST_LABELS - 1 : -1], _LABEL_SIZE)
    write(picture, f"{camera}, mirrored" if mirrored else camera, (9, 14), 12, INK, bold=True, halo=True)
    return picture


def looks_back(frame: Frame, camera: str) -> bool:
    """Whether a camera is turned away from where the vehicle goes."""
    ahead = frame.cameras[camera].sensor2lidar.rotation[1, 2]
    return bool(ahead < 0)


def _image(frame: Frame, camera: str, width: int) -> Picture:
    image = frame.cameras[camera].image
    pixels = read_jpeg(image) if isinstance(image, Path) else image
    height = round(pixels.shape[0] * width / pixels.shape[1])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _edges(picture: Picture, matrix: Float64Array, box: TrackedBox | Annotation) -> Float64Array:
    """Pixels [n, 2, 2] of a box's edges as far as they are before the camera; none if all lie beside the picture."""
    corners = box_corners(box.center, box.size, box.heading)
    edges = project_segments(matrix, corners[_PAIRS[:, 0]], corners[_PAIRS[:, 1]])
    height, width, _ = picture.shape
    if not len(edges) or not _meets(edges.reshape(-1, 2), width, height):
        return np.empty((0, 2, 2))
    return edges


def _meets(pixels: Float64Array, width: int, height: int) -> bool:
    """Whether the rectangle around `pixels` [n, 2] meets the picture."""
    (left, top), (right, bottom) = pixels.min(0), pixels.max(0)
    return bool(left < width and right > 0 and top < height and bottom > 0)


def _draw_box(picture: Picture, matrix: Float64Array, box: TrackedBox) -> Iterable[Label]:
    """Draw the box; give its label if it can be seen."""
    edges = _edges(picture, matrix, box)
    if not len(edges):
        return
    color = class_color(box.label)
    front = project(matrix, box_corners(box.center, box.size, box.heading)[_FRONT])
    if (front[:, 2] >= NEAR).all():
        fill(picture, front[:, :2], color, alpha=0.35)
    for edge in edges:
        stroke(picture, edge, GROUND, 3, alpha=0.5)
    for edge in edges:
        stroke(picture, edge, color, 1)
    _draw_velocity(picture, matrix, box)
    middle = (edges[..., 0].min() + edges[..., 0].max()) / 2
    if 0 < middle < picture.shape[1]:
        top, bottom = float(edges[..., 1].min()), float(edges[..., 1].max())
        places = tuple((float(middle), v) for v in (top - 2, top - 16, bottom + 16, top - 30))
        yield Label(f"{box.track_id} · {box.score:.2f}", places, color)


def _draw_velocity(picture: Picture, matrix: Float64Array, box: TrackedBox) -> None:
    """Where the front of the box's floor will be in a second, if it moves."""
    if np.hypot(*box.velocity) < SLOW:
        return
    corners = box_corners(box.center, box.size, box.heading)
    start = (corners[0] + corners[1]) / 2
    tip = start + np.array([*box.velocity, 0.0])
    for pixels in project_segments(matrix, start[None], tip[None]):
        stroke(picture, pixels, GROUND, 4, alpha=0.5)
        arrow(picture, pixels[0], pixels[1], INK, 2, head=9)


def _draw_plan(picture: Picture, matrix: Float64Array, frame: Frame, plan: PlanResult) -> None:
    """A ribbon on the ground, nearer parts more opaque, and a dot for each planned position."""
    path = smooth_path(plan.points)
    path = path[np.linalg.norm(path, axis=1) >= _FIRST_METRES]
    if len(path) < 2:
        return
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    side = np.stack([-along[:, 1], along[:, 0]], axis=-1) * _RIBBON * EGO_SIZE[0] / 2
    left, right = (_on_ground(matrix, frame, path + shift) for shift in (side, -side))
    height, width, _ = picture.shape
    ribbon = picture.copy()
    for i in range(len(path) - 1):
        quad = np.stack([left[i], left[i + 1], right[i + 1], right[i]])
        if (quad[:, 2] >= NEAR).all() and _meets(quad[:, :2], width, height):
            fill(ribbon, quad[:, :2], PLAN)
    cv2.addWeighted(picture, 0.5, ribbon, 0.5, 0, dst=picture)
    for edge in (left, right):
        ahead = edge[edge[:, 2] >= NEAR, :2]
        if len(ahead) > 1 and _meets(ahead, width, height):
            stroke(picture, ahead, PLAN, 1)
    for u, v, depth in _on_ground(matrix, frame, plan.points.astype(np.float64)):
        if depth >= NEAR:
            dot(picture, np.array([u, v]), 4.0, GROUND)
            dot(picture, np.array([u, v]), 3.0, PLAN)


def _on_ground(matrix: Float64Array, frame: Frame, points: Float64Array) -> Float64Array:
    """Pixels and depths [n, 3] of `points` [n, 2] on the ground."""
    return project(matrix, np.column_stack([points, ground_height(frame, points)]))
