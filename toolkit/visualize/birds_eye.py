"""One picture of a frame's results from above: the whole range, and the surroundings of the ego at a larger scale."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, Patch, Polygon, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from toolkit.files import new_file
from toolkit.runtime.results import FrameResult, MapResult, Mask, MotionModes, OccupancyResult, PlanResult, TrackedBox

Color = tuple[float, float, float]
Extent = tuple[float, float, float, float]

_INK, _MUTED, _PAPER, _GROUND = "#1f2933", "#7b8794", "#ffffff", "#f1f3f5"
_DRIVABLE = "#dbe2ea"
_LANES = ("#e09f3e", "#3a9d8f", "#b5536b", "#6c7aa0")
_LANE_ALPHA = 0.5
_PLAN, _EGO = "#0b8a3e", "#14532d"
_OCCUPIED_NOW, _OCCUPIED_LATEST = "#c2410c", "#fcd9a0"
_CLASSES = {
    "car": "#2463eb",
    "truck": "#6741d9",
    "construction_vehicle": "#a16207",
    "bus": "#0891b2",
    "trailer": "#4c6a92",
    "barrier": "#78716c",
    "motorcycle": "#c026d3",
    "bicycle": "#db2777",
    "pedestrian": "#e11d48",
    "traffic_cone": "#ea580c",
}
_OTHER_CLASS = "#475569"
_EGO_SIZE = (1.73, 4.08)
"""Width and length (m) of the ego box, about the LiDAR, that the reference was trained with."""
_FAR, _NEAR = 53.0, 16.0
"""Half the side (m) of the two views: all of the default BEV grid, and the ego's surroundings."""
_SLOW = 0.5
"""Below this speed (m/s) no velocity arrow is drawn."""


def draw_birds_eye(result: FrameResult, path: Path, dpi: int = 100) -> None:
    """Write the picture as a PNG, 1280 x 960 pixels at 100 dpi."""
    with new_file(path) as file:
        birds_eye_figure(result).savefig(file, dpi=dpi, format="png")


def birds_eye_figure(result: FrameResult) -> Figure:
    """Forward is up. On the left the whole range, on the right the ego's surroundings and the legend."""
    figure = Figure(figsize=(12.8, 9.6), facecolor=_PAPER)
    FigureCanvasAgg(figure)
    far = figure.add_axes((0.0125, 0.0167, 0.7, 0.9333))
    near = figure.add_axes((0.7275, 0.6033, 0.26, 0.3467))
    _draw_view(far, result, _FAR, ring_step=10, scale_bar=10)
    _draw_view(near, result, _NEAR, ring_step=5, scale_bar=5)
    far.add_patch(Rectangle((-_NEAR, -_NEAR), 2 * _NEAR, 2 * _NEAR, fill=False, edgecolor=_MUTED, ls=":", zorder=2))
    _draw_title(figure, result)
    _draw_legend(figure, result)
    return figure


def _draw_view(axes: Axes, result: FrameResult, reach: float, ring_step: int, scale_bar: int) -> None:
    axes.set_facecolor(_GROUND)
    if result.map:
        _draw_map(axes, result.map)
    _draw_rings(axes, reach, ring_step)
    if result.occupancy:
        _draw_occupancy(axes, result.occupancy)
    for box in result.boxes:
        _draw_box(axes, box, reach)
    if result.ego_motion:
        _draw_motion(axes, result.ego_motion, _EGO)
    _draw_ego(axes)
    if result.plan:
        _draw_plan(axes, result.plan)
    _draw_scale_bar(axes, reach, scale_bar)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=(), yticks=())
    for spine in axes.spines.values():
        spine.set_edgecolor("#cbd2d9")


def _draw_map(axes: Axes, result: MapResult) -> None:
    extent = (*result.x_range, *result.y_range)
    _draw_mask(axes, result.drivable, to_rgb(_DRIVABLE), 1.0, extent)
    for lane, color in zip(result.lanes, itertools.cycle(_LANES), strict=False):
        _draw_mask(axes, lane, to_rgb(color), _LANE_ALPHA, extent)


def _draw_occupancy(axes: Axes, result: OccupancyResult) -> None:
    extent = (*result.x_range, *result.y_range)
    steps = len(result.cells)
    for step in reversed(range(steps)):
        _draw_mask(axes, result.cells[step], _occupancy_color(step, steps), 0.8, extent)
    corner, width, height = (extent[0], extent[2]), extent[1] - extent[0], extent[3] - extent[2]
    border = Rectangle(corner, width, height, fill=False, edgecolor=_OCCUPIED_NOW, linewidth=0.7, alpha=0.6, ls="--")
    axes.add_patch(border)


def _draw_mask(axes: Axes, mask: Mask, color: Color, alpha: float, extent: Extent) -> None:
    """Cells of `mask` [H, W] in one colour; row 0 is at the bottom."""
    image = np.zeros((*mask.shape, 4))
    image[mask] = (*color, alpha)
    axes.imshow(image, extent=extent, origin="lower", interpolation="nearest", zorder=1)


def _draw_rings(axes: Axes, reach: float, step: int) -> None:
    for radius in range(step, int(reach), step):
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor=_MUTED, linewidth=0.5, alpha=0.45, zorder=2))
        position = -radius * np.sqrt(0.5)
        _draw_text(axes, (position, position), f"{radius} m", _MUTED, size=6)


def _draw_box(axes: Axes, box: TrackedBox, reach: float) -> None:
    color = _CLASSES.get(box.label, _OTHER_CLASS)
    if box.motion:
        _draw_motion(axes, box.motion, color)
    x, y, _ = box.center
    corners = _corners((x, y), box.size[0], box.size[1], box.heading)
    axes.add_patch(Polygon(corners, facecolor=(*to_rgb(color), 0.3), edgecolor=color, linewidth=1.3, zorder=5))
    front = (corners[0] + corners[1]) / 2
    axes.plot([x, front[0]], [y, front[1]], color=color, linewidth=1.3, zorder=5)
    if np.hypot(*box.velocity) > _SLOW:
        tip = front + np.array(box.velocity)
        arrow = FancyArrowPatch(
            (front[0], front[1]), (tip[0], tip[1]), arrowstyle="-|>", mutation_scale=7, shrinkA=0, shrinkB=0,
            color=_INK, linewidth=0.9, zorder=6,
        )  # fmt: skip
        axes.add_patch(arrow)
    if max(abs(x), abs(y)) < reach:
        beside = (float(corners[:, 0].max()) + 0.012 * reach, y)
        _draw_text(axes, beside, f"{box.track_id} · {box.score:.2f}", color, size=6.5, align="left")


def _draw_motion(axes: Axes, motion: MotionModes, color: str) -> None:
    """Likelier modes are more opaque."""
    for points, probability in zip(motion.trajectories, motion.probabilities, strict=True):
        alpha = float(0.1 + 0.9 * probability)
        axes.plot(*points.T, color=color, alpha=alpha, linewidth=1.4, zorder=4, solid_capstyle="round")
        axes.plot(*points[-1], color=color, alpha=alpha, marker="o", markersize=2.5, markeredgewidth=0, zorder=4)


def _draw_plan(axes: Axes, plan: PlanResult) -> None:
    path = np.concatenate([np.zeros((1, 2)), plan.points])
    axes.plot(*path.T, color=_PAPER, linewidth=4.5, zorder=7, solid_capstyle="round")
    axes.plot(*path.T, color=_PLAN, linewidth=2.2, zorder=7)
    axes.plot(*plan.points.T, color=_PLAN, linestyle="", marker="o", markersize=4, zorder=7)


def _draw_ego(axes: Axes) -> None:
    corners = _corners((0.0, 0.0), *_EGO_SIZE, heading=np.pi / 2)
    axes.add_patch(Polygon(corners, facecolor=_EGO, edgecolor=_PAPER, linewidth=1, zorder=6))


def _draw_scale_bar(axes: Axes, reach: float, length: int) -> None:
    right, low = 0.95 * reach, -0.95 * reach
    axes.plot([right - length, right], [low, low], color=_INK, linewidth=2.5, solid_capstyle="butt", zorder=8)
    _draw_text(axes, (right - length / 2, low + 0.03 * reach), f"{length} m", _INK, size=7.5)


def _draw_text(
    axes: Axes, position: tuple[float, float], text: str, color: str, size: float, align: str = "center"
) -> None:
    outline = [withStroke(linewidth=2, foreground=_PAPER, alpha=0.85)]
    axes.text(
        *position, text, color=color, fontsize=size, ha=align, va="center", path_effects=outline, zorder=9, clip_on=True
    )


def _draw_title(figure: Figure, result: FrameResult) -> None:
    figure.text(0.0125, 0.973, result.scene, color=_INK, fontsize=14, fontweight="bold", va="center")
    facts = [
        f"frame {result.frame}",
        f"t = {result.timestamp:.2f} s",
        f"command {result.command.name.lower()}",
        f"{len(result.boxes)} objects",
    ]
    if result.dropped_tracks or result.dropped_agents:
        facts.append(f"beyond capacity: {result.dropped_tracks} tracks, {result.dropped_agents} agents")
    figure.text(0.9875, 0.973, "   ·   ".join(facts), color=_MUTED, fontsize=10.5, ha="right", va="center")


def _draw_legend(figure: Figure, result: FrameResult) -> None:
    """Only what the picture shows: ego and objects on the left, map and occupancy on the right."""
    left, right, top = 0.7275, 0.87, 0.585
    _draw_legend_group(figure, "Ego", _ego_keys(result), left, top)
    if result.boxes:
        _draw_legend_group(figure, "Objects (id · score)", _object_keys(result), left, top - 0.12)
    if result.map:
        classes = zip(result.map.lane_classes, itertools.cycle(_LANES), strict=False)
        lanes = [Patch(color=color, alpha=_LANE_ALPHA, label=_spaced(name)) for name, color in classes]
        _draw_legend_group(figure, "Map", [Patch(color=_DRIVABLE, label="drivable"), *lanes], right, top)
    if result.occupancy:
        steps, seconds = len(result.occupancy.cells), result.occupancy.step_seconds
        keys = [
            Patch(color=_occupancy_color(i, steps), label=f"+{i * seconds:g} s" if i else "now") for i in range(steps)
        ]
        _draw_legend_group(figure, "Occupied by vehicles", keys, right, top - 0.12)


def _ego_keys(result: FrameResult) -> list[Artist]:
    keys: list[Artist] = [Patch(color=_EGO, label="vehicle")]
    if result.plan:
        seconds = len(result.plan.points) * result.plan.step_seconds
        keys.append(Line2D([], [], color=_PLAN, linewidth=2.2, marker="o", markersize=4, label=f"plan, {seconds:g} s"))
    if result.ego_motion:
        keys.append(Line2D([], [], color=_EGO, linewidth=1.4, alpha=0.5, label="forecast"))
    return keys


def _object_keys(result: FrameResult) -> list[Artist]:
    present = {box.label for box in result.boxes}
    names = [name for name in _CLASSES if name in present] + sorted(present - _CLASSES.keys())
    keys: list[Artist] = [Patch(color=_CLASSES.get(name, _OTHER_CLASS), label=_spaced(name)) for name in names]
    keys.append(Line2D([], [], color=_INK, linewidth=0.9, marker=">", markersize=4, label="velocity, 1 s"))
    if any(box.motion for box in result.boxes):
        keys.append(Line2D([], [], color=_MUTED, marker="o", markersize=3, label="forecast, by probability"))
    return keys


def _draw_legend_group(figure: Figure, title: str, keys: Sequence[Artist], x: float, y: float) -> None:
    legend = figure.legend(
        handles=keys, title=title, loc="upper left", bbox_to_anchor=(x, y), frameon=False, fontsize=8.5,
        title_fontproperties={"size": 9, "weight": "bold"}, labelcolor=_INK, alignment="left", borderpad=0,
        borderaxespad=0, handlelength=1.6, labelspacing=0.45,
    )  # fmt: skip
    legend.get_title().set_color(_INK)


def _occupancy_color(step: int, steps: int) -> Color:
    """From now (dark) to the last step (light)."""
    share = step / max(steps - 1, 1)
    red, green, blue = (1 - share) * np.array(to_rgb(_OCCUPIED_NOW)) + share * np.array(to_rgb(_OCCUPIED_LATEST))
    return float(red), float(green), float(blue)


def _corners(center: tuple[float, float], width: float, length: float, heading: float) -> NDArray[np.float64]:
    """[4, 2]: front left, front right, rear right, rear left."""
    ahead = np.array([np.cos(heading), np.sin(heading)]) * length / 2
    left = np.array([-np.sin(heading), np.cos(heading)]) * width / 2
    return np.array(center) + np.stack([ahead + left, ahead - left, -ahead - left, -ahead + left])


def _spaced(name: str) -> str:
    return name.replace("_", " ")
