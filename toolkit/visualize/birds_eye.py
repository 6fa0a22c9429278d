"""Results from above: forward is up, the ego in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.data.annotations import Annotation
from toolkit.runtime.results import FrameResult, MapResult, Mask, MotionModes, OccupancyResult, PlanResult, TrackedBox
from toolkit.visualize.between import STILL, PlanarMotion
from toolkit.visualize.canvas import Picture, Points, arrow, blank, dash, dot, fill, outline, ring, stroke
from toolkit.visualize.ego import EGO_SIZE, SLOW, nearest_first, smooth_path
from toolkit.visualize.lettering import Label, Rectangle, place_labels, write
from toolkit.visualize.palette import (
    DRIVABLE,
    EDGE,
    EGO,
    GROUND,
    INK,
    MUTED,
    PANEL,
    PLAN,
    TRUTH,
    Color,
    class_color,
    lane_color,
    occupancy_color,
)
from toolkit.visualize.projection import box_corners

_OCCUPANCY_ALPHA = 0.75
_OCCUPANCY_BORDER = occupancy_color(1, 3)
_SHORT = 0.7
"""Metres; a shorter forecast is not drawn."""
_LABEL_SIZE, _RING_SIZE = 11, 12
_FAINTEST = 0.2
"""Opacity of a mode of no probability."""
_STROKE = 16
"""Pixels that nothing reaches beyond the points that it is drawn through."""
_UP = np.array([1.0, -1.0])
"""Pixels go down."""
Ranges = tuple[tuple[float, float], tuple[float, float]]
"""Of x and of y, in metres."""


@dataclass(frozen=True)
class EgoSquare:
    """A square around the ego: half its side in metres, its side in pixels, and metres between rings."""

    reach: float
    size: int
    ring_step: int
    since: PlanarMotion = STILL
    """How the ego has moved since the moment that results are of."""

    @property
    def scale(self) -> float:
        """Pixels per metre."""
        return self.size / (2 * self.reach)

    def pixels(self, points: NDArray[np.floating]) -> Points:
        """(u, v) of `points` [..., n, 2] (m, LiDAR frame of the results)."""
        return self.around_ego(points if self.since is STILL else self.since.apply(points))

    def around_ego(self, points: NDArray[np.floating]) -> Points:
        """(u, v) of `points` [..., n, 2] (m, LiDAR frame of the ego as it is drawn)."""
        upwards: Points = np.asarray(points, np.float64) * _UP
        return (upwards + self.reach) * self.scale

    def meets(self, pixels: Points) -> NDArray[np.bool_]:
        """[...]: whether what is drawn through pixels [..., n, 2] can be in view."""
        least, most = pixels.min(-2), pixels.max(-2)
        return np.asarray(((least < self.size + _STROKE) & (most > -_STROKE)).all(-1))


def far_view(size: int, since: PlanarMotion = STILL) -> EgoSquare:
    """All of the default BEV grid."""
    return EgoSquare(53.0, size, ring_step=10, since=since)


def near_view(size: int, since: PlanarMotion = STILL) -> EgoSquare:
    """The surroundings that occupancy covers."""
    return EgoSquare(16.0, size, ring_step=5, since=since)


Layer = Callable[[Picture, EgoSquare, FrameResult], None]
"""Draws what a submodule gives beyond the parts of a result that the toolkit knows."""


def draw_birds_eye(
    result: FrameResult, view: EgoSquare, annotations: Sequence[Annotation] = (), layers: Sequence[Layer] = ()
) -> Picture:
    """Map, occupancy, boxes with their motion, the ego and its plan; ground truth is dashed. `layers` go on top."""
    picture = blank(view.size, view.size, PANEL)
    if result.map is not None:
        _draw_map(picture, view, result.map)
    _draw_rings(picture, view)
    if result.occupancy is not None:
        _draw_occupancy(picture, view, result.occupancy)
    for annotation in annotations:
        _draw_truth(picture, view, annotation)
    for box in result.boxes:
        if box.motion is not None:
            _draw_motion(picture, view, box.motion, np.array(box.center[:2]), class_color(box.label))
    if result.ego_motion is not None:
        _draw_motion(picture, view, result.ego_motion, np.zeros(2), EGO)
    labels = [label for box in reversed(nearest_first(result.boxes)) for label in _draw_box(picture, view, box)]
    if result.plan is not None:
        _draw_plan(picture, view, result.plan)
    for layer in layers:
        layer(picture, view, result)
    _draw_ego(picture, view)
    place_labels(picture, reversed(labels), _LABEL_SIZE, taken=_name_rings(picture, view))
    _draw_scale_bar(picture, view)
    cv2.rectangle(picture, (0, 0), (view.size - 1, view.size - 1), EDGE)
    return picture


def frame_around(picture: Picture, view: EgoSquare, reach: float) -> None:
    """Mark the square that another view shows."""
    corners = view.around_ego(np.array([(-reach, -reach), (reach, -reach), (reach, reach), (-reach, reach)]))
    stroke(picture, corners, MUTED, 1, alpha=0.6, closed=True)


def _draw_map(picture: Picture, view: EgoSquare, result: MapResult) -> None:
    cells = np.full((*result.drivable.shape, 3), PANEL, np.float32)
    cells[result.drivable] = DRIVABLE
    for i, lane in enumerate(result.lanes):
        cells[lane] = lane_color(i)
    shown = np.any([result.drivable, *result.lanes], axis=0)
    _draw_cells(picture, view, cells, shown, (result.x_range, result.y_range), 1.0)


def _draw_occupancy(picture: Picture, view: EgoSquare, result: OccupancyResult) -> None:
    """The present lies on top of the future."""
    (left, right), (rear, front) = ranges = (result.x_range, result.y_range)
    steps = len(result.cells)
    cells = np.zeros((*result.cells.shape[1:], 3), np.float32)
    for step in reversed(range(steps)):
        cells[result.cells[step]] = occupancy_color(step, steps)
    _draw_cells(picture, view, cells, np.any(result.cells, axis=0), ranges, _OCCUPANCY_ALPHA)
    corners = view.pixels(np.array([(left, rear), (right, rear), (right, front), (left, front)]))
    dash(picture, outline(corners), _OCCUPANCY_BORDER)


def _draw_cells(
    picture: Picture, view: EgoSquare, cells: NDArray[np.float32], shown: Mask, ranges: Ranges, alpha: float
) -> None:
    """Colours [H, W, 3] of a grid over `ranges`, as far as `shown` [H, W]; row 0 is the rear."""
    (left, right), (rear, front) = ranges
    height, width = shown.shape
    origin, along, up = view.pixels(np.array([(left, rear), (right, rear), (left, front)]))
    to_view = np.column_stack([(along - origin) / width, (up - origin) / height, origin])
    to_view[:, 2] += to_view[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts from the middle of pixels
    # One look for colours and cover, which lies in the fourth channel.
    covered = np.dstack([cells.astype(np.uint8), shown.astype(np.uint8)])
    seen = cv2.warpAffine(covered, to_view, (view.size, view.size), flags=cv2.INTER_NEAREST)
    colors, cover = cv2.cvtColor(seen, cv2.COLOR_RGBA2RGB), cv2.extractChannel(seen, 3)
    cv2.copyTo(colors if alpha == 1 else cv2.addWeighted(picture, 1 - alpha, colors, alpha, 0), cover, picture)


def _draw_rings(picture: Picture, view: EgoSquare) -> None:
    middle = np.full(2, view.size / 2)
    for radius in range(view.ring_step, int(view.reach), view.ring_step):
        ring(picture, middle, radius * view.scale, MUTED, alpha=0.3)


def _name_rings(picture: Picture, view: EgoSquare) -> list[Rectangle]:
    """The rectangles that the names take."""
    taken = []
    for radius in range(view.ring_step, int(view.reach), view.ring_step):
        u, v = view.size / 2 + radius * view.scale * np.sqrt(0.5) * np.array([-1, 1])
        half = write(picture, f"{radius} m", (u, v), _RING_SIZE, INK, align="center", halo=True) // 2 + 2
        taken.append((round(u) - half, round(v) - _RING_SIZE, round(u) + half, round(v) + _RING_SIZE // 2 + 2))
    return taken


def _draw_truth(picture: Picture, view: EgoSquare, annotation: Annotation) -> None:
    dash(picture, outline(view.pixels(_footprint(annotation))), TRUTH, period=5)


def _draw_box(picture: Picture, view: EgoSquare, box: TrackedBox) -> Iterable[Label]:
    """Draw the box; give its label if its middle is in view."""
    color = class_color(box.label)
    footprint = _footprint(box)
    corners = view.pixels(footprint)
    nose = (corners[0] + corners[1]) / 2
    tip = view.pixels(footprint[:2].mean(0)[None] + box.velocity)[0]
    if not view.meets(np.array([*corners, tip])):
        return
    fill(picture, corners, color, alpha=0.45)
    stroke(picture, corners, color, 1, closed=True)
    stroke(picture, np.array([corners.mean(0), nose]), color, 1)
    if np.hypot(*box.velocity) >= SLOW:
        arrow(picture, nose, tip, INK, 1, head=6)
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    middle_u, middle_v, half = (left + right) / 2, (top + bottom) / 2, 12
    places = (
        (right + half, middle_v + 6),
        (left - half, middle_v + 6),
        (middle_u, top - 2),
        (middle_u, bottom + 14),
    )
    if 0 <= middle_u < view.size and 0 <= middle_v < view.size:
        yield Label(str(box.track_id), places, color)


def _draw_motion(picture: Picture, view: EgoSquare, motion: MotionModes, start: Points, color: Color) -> None:
    """Likelier modes are more opaque and come last; one that stays where it is would only hide its object."""
    likeliest = int(np.argmax(motion.probabilities))
    modes, steps, _ = motion.trajectories.shape
    paths = np.empty((modes, steps + 1, 2))
    paths[:, 0], paths[:, 1:] = start, motion.trajectories
    pixels = view.pixels(paths)
    drawn = (np.linalg.norm(paths - start, axis=2).max(1) >= _SHORT) & view.meets(pixels)
    opacity = _FAINTEST + (1 - _FAINTEST) * np.sqrt(np.clip(motion.probabilities, 0, 1)).astype(np.float64)
    for i in np.argsort(motion.probabilities):
        if drawn[i]:
            stroke(picture, pixels[i], color, 2 if i == likeliest else 1, opacity[i])
            dot(picture, pixels[i, -1], 2.5, color, opacity[i])


def _draw_plan(picture: Picture, view: EgoSquare, plan: PlanResult) -> None:
    path = view.pixels(smooth_path(plan.points))
    stroke(picture, path, GROUND, 5)
    stroke(picture, path, PLAN, 3)
    for point in view.pixels(plan.points):
        dot(picture, point, 4.0, GROUND)
        dot(picture, point, 3.0, PLAN)


def _draw_ego(picture: Picture, view: EgoSquare) -> None:
    """The body with its windscreen, so that front and rear are told apart."""
    (width, length), no_height = EGO_SIZE, 0.0
    corners = box_corners((0.0, 0.0, 0.0), (width, length, no_height), np.pi / 2)[:4, :2]
    fill(picture, view.around_ego(corners), EGO)
    stroke(picture, view.around_ego(corners), GROUND, 1, closed=True)
    half = width / 2 * 0.8
    screen = np.array([(-half, 0.25 * length), (half, 0.25 * length), (half * 0.8, 0.1 * length)])
    fill(picture, view.around_ego(np.concatenate([screen, [(-half * 0.8, 0.1 * length)]])), GROUND)


def _draw_scale_bar(picture: Picture, view: EgoSquare) -> None:
    right, low = view.size - 14, view.size - 14
    left = right - view.ring_step * view.scale
    for color, thickness in ((GROUND, 5), (INK, 2)):
        stroke(picture, np.array([(left, low), (right, low)]), color, thickness)
    write(picture, f"{view.ring_step} m", ((left + right) / 2, low - 11), 11, align="center", halo=True)


def _footprint(box: TrackedBox | Annotation) -> Points:
    """[4, 2] m: front left, front right, rear right, rear left."""
    return box_corners(box.center, box.size, box.heading)[:4, :2]
