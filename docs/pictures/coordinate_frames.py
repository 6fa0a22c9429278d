"""Draws coordinate_frames.png for docs/coordinate-frames.md: python docs/pictures/coordinate_frames.py

The frames are those of a real vehicle's calibration, rounded, and go through the toolkit's own transforms.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Polygon, Rectangle
from PIL import Image

from toolkit.config.model import ImageConfig
from toolkit.data.frames import CameraView, Float64Array, Pose
from toolkit.data.preprocess import lidar_to_image

X, Y, Z = "#c0392b", "#1e8449", "#1f618d"
GREY, LIGHT, PLAN = "#5d6d7e", "#e5e8ea", "#d68910"
LIDAR2EGO = Pose.from_matrix(np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]), np.array([0.94, 0.0, 1.84]))
EGO2GLOBAL = Pose(np.array([math.cos(0.3), 0, 0, math.sin(0.3)]), np.array([4.5, 3.0, 0.0]))
CAMERA = CameraView(
    image=np.zeros((1, 1, 3), np.uint8),
    intrinsics=np.array([[1266.0, 0, 816], [0, 1266, 491], [0, 0, 1]]),
    sensor2lidar=Pose.from_matrix(np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), np.array([0.0, 0.44, -0.32])),
)
LENGTH, WIDTH, REAR = 4.1, 1.73, 0.9
"""The vehicle, and how far it reaches behind the rear axle, in metres."""


def main() -> None:
    plt.rcParams.update({"font.size": 9, "font.family": "DejaVu Sans"})
    figure, (above, side, image) = plt.subplots(
        1, 3, figsize=(14, 3.9), width_ratios=[1.35, 1.4, 1.6], layout="constrained"
    )
    draw_above(above)
    draw_side(side)
    draw_image(image)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    Image.open(buffer).convert("RGB").quantize(64).save(Path(__file__).with_suffix(".png"), optimize=True)


def draw_above(axes: Axes) -> None:
    """Global, ego and LiDAR frame from above."""
    axes.set_title("From above (all z up)")
    corners = np.array([[x, y, 0.0] for x, y in vehicle_corners()])
    axes.add_patch(Polygon(to_global(corners)[:, :2], facecolor=LIGHT, edgecolor=GREY))
    ego, rear_axle = EGO2GLOBAL.rotation[:2, :2], EGO2GLOBAL.translation[:2]
    lidar, roof = ego @ LIDAR2EGO.rotation[:2, :2], to_global(LIDAR2EGO.translation[None])[0, :2]
    axes.annotate("", (rear_axle[0], rear_axle[1]), (0, 0), arrowprops={"arrowstyle": "->", "color": GREY, "ls": ":"})
    axes.text(1.0, 1.05, "ego2global", color=GREY, rotation=math.degrees(math.atan2(*rear_axle[::-1])))
    arrows(axes, np.zeros(2), {"x": (X, np.array([2.0, 0])), "y": (Y, np.array([0, 2.0]))})
    arrows(axes, rear_axle, {"x": (X, 5.2 * ego[:, 0]), "y": (Y, 2.2 * ego[:, 1])})
    arrows(axes, roof, {"x": (X, 2.2 * lidar[:, 0]), "y": (Y, 1.6 * lidar[:, 1])}, "--", aside=9)
    call_out(axes, "global", (0, 0), (0.7, -0.9))
    call_out(axes, "ego: rear axle,\nx forward, y left", rear_axle, (-0.4, 6.4))
    call_out(axes, "LiDAR: roof,\nx right, y forward", roof, (6.6, 0.6))
    axes.set(xlim=(-0.8, 10.8), ylim=(-1.4, 7.6), aspect="equal", xlabel="m", ylabel="m")


def draw_side(axes: Axes) -> None:
    """Ego, LiDAR and front camera from the right."""
    axes.set_title("From the right")
    axes.add_patch(Rectangle((-REAR, 0.35), LENGTH, 0.75, facecolor=LIGHT, edgecolor=GREY))
    axes.add_patch(Polygon([(-0.6, 1.1), (-0.1, 1.55), (1.6, 1.55), (2.3, 1.1)], facecolor=LIGHT, edgecolor=GREY))
    for wheel in (0.0, 2.6):
        axes.add_patch(Circle((wheel, 0.32), 0.32, facecolor="white", edgecolor=GREY))
    axes.axhline(0, color=GREY, lw=0.8)
    lidar = LIDAR2EGO.translation[[0, 2]]
    camera = (LIDAR2EGO.rotation @ CAMERA.sensor2lidar.translation + LIDAR2EGO.translation)[[0, 2]]
    arrows(axes, np.zeros(2), {"x": (X, np.array([1.3, 0])), "z": (Z, np.array([0, 1.0]))}, aside=-9)
    arrows(axes, lidar, {"y": (Y, np.array([1.2, 0])), "z": (Z, np.array([0, 0.6]))}, "--")
    arrows(axes, camera, {"z": (Z, np.array([1.7, 0])), "y": (Y, np.array([0, -0.75]))}, "-.", aside=9)
    call_out(axes, "ego: on the ground", (0, 0), (-1.2, -0.5))
    call_out(axes, "LiDAR: 1.84 m", lidar, (-1.2, 2.7))
    call_out(axes, "camera: z along the view,\ny down, x right", camera, (1.35, 2.45))
    axes.set(xlim=(-1.4, 3.9), ylim=(-0.75, 3.1), aspect="equal", xlabel="m", ylabel="m")


def draw_image(axes: Axes) -> None:
    """The network's image, with points of the LiDAR frame projected into it."""
    config = ImageConfig()
    (height, width), (padded_height, padded_width) = config.resized, config.padded
    axes.set_title("Front image as fed: 400x225, padded to 416x256")
    axes.invert_yaxis()
    axes.add_patch(Rectangle((0, 0), padded_width, padded_height, facecolor="#c5cbd0", edgecolor=GREY))
    axes.add_patch(Rectangle((0, 0), width, height, facecolor="white", edgecolor=GREY))
    ground = -LIDAR2EGO.translation[2]
    for x in (-3.6, 0.0, 3.6):
        line = project(np.array([[x, y, ground] for y in np.linspace(7, 80, 60)]))
        axes.plot(*line.T, color=LIGHT if x else GREY, lw=1.5, ls="-" if x else "--")
    box = np.array([[-2.6 + 1.9 * i, 18 + 4.5 * j, ground + 1.6 * k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    pixels = project(box)
    for a in range(8):
        for b in (a ^ 1, a ^ 2, a ^ 4):
            axes.plot(*pixels[[a, b]].T, color=X, lw=1.2)
    plan = project(np.array([[0.0025 * y**2, y, ground] for y in np.linspace(6, 30, 20)]))
    axes.plot(*plan.T, color=PLAN, lw=3)
    call_out(axes, "a box at 18 m", pixels[1], (90, 95), X)
    call_out(axes, "a path on the ground,\nz = −1.84 m from the LiDAR", plan[-1], (215, 92), PLAN)
    arrows(axes, np.zeros(2), {"u": (X, np.array([70.0, 0]))}, aside=8)
    arrows(axes, np.zeros(2), {"v": (Y, np.array([0, 60.0]))}, aside=-8)
    axes.text(width / 2, height + 21, "zeros", color=GREY, ha="center")
    axes.set(xlim=(-20, padded_width + 8), ylim=(padded_height + 8, -20), aspect="equal", xlabel="px", ylabel="px")


def vehicle_corners() -> list[tuple[float, float]]:
    """In the ego frame."""
    front, left = LENGTH - REAR, WIDTH / 2
    return [(-REAR, -left), (front, -left), (front, left), (-REAR, left)]


def to_global(points: Float64Array) -> Float64Array:
    """[n, 3] from the ego frame."""
    return points @ EGO2GLOBAL.rotation.T + EGO2GLOBAL.translation


def project(points: Float64Array) -> Float64Array:
    """Pixels [n, 2] of points [n, 3] in the LiDAR frame, by the matrix that the network is given."""
    projected = np.column_stack([points, np.ones(len(points))]) @ lidar_to_image(CAMERA, ImageConfig()).T
    return np.asarray(projected[:, :2] / projected[:, 2:3], np.float64)


def arrows(
    axes: Axes,
    origin: Float64Array,
    directions: dict[str, tuple[str, Float64Array]],
    style: str = "-",
    aside: float = 0.0,
) -> None:
    """The axes of a coordinate frame: by name, their colour and direction. Names stand `aside` points to the left."""
    for name, (color, direction) in directions.items():
        shape = {"arrowstyle": "-|>", "color": color, "lw": 2, "ls": style, "shrinkA": 0, "shrinkB": 0}
        tip = origin + direction
        axes.annotate("", (tip[0], tip[1]), (origin[0], origin[1]), arrowprops=shape)
        along = direction / np.linalg.norm(direction) * (1, -1 if axes.yaxis_inverted() else 1)
        beyond = (0 if aside else 8) * along + aside * np.array([-along[1], along[0]])
        axes.annotate(
            name,
            (tip[0], tip[1]),
            xytext=(beyond[0], beyond[1]),
            textcoords="offset points",
            color=color,
            weight="bold",
            ha="center",
            va="center",
        )
    axes.plot(*origin, "o", color="black", ms=4)


def call_out(
    axes: Axes, text: str, point: Float64Array | tuple[float, float], place: tuple[float, float], color: str = "black"
) -> None:
    """A text at `place` with a thin line to what it names."""
    shape = {"arrowstyle": "-", "color": color, "lw": 0.6}
    axes.annotate(text, (point[0], point[1]), place, color=color, arrowprops=shape)


if __name__ == "__main__":
    main()
