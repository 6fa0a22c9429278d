"""A small drive through a made-up street, for a demo without any download.

Two scenes of three frames, half a second apart: a straight road on flat ground with a few boxes on it, seen by six
cameras that are mounted about as on a nuScenes car. The street's own frame has x along the road, y to the left and z
up, metres, with the origin on the ground. Everything is deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.config import ImageConfig
from toolkit.data.frame_folder import write_frame
from toolkit.data.frames import CameraView, CanReading, Command, Float64Array, Frame, Pose

_STEP_SECONDS = 0.5
_LIDAR2EGO = Pose.from_matrix(np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]), np.array([0.94, 0.0, 1.84]))
_CAMERAS = {
    "CAM_FRONT": (0, 1266.4, (0.0, 0.75, -0.33)),
    "CAM_FRONT_RIGHT": (-55, 1260.8, (0.5, 0.6, -0.33)),
    "CAM_FRONT_LEFT": (55, 1272.6, (-0.5, 0.6, -0.33)),
    "CAM_BACK": (180, 809.2, (0.0, -0.9, -0.28)),
    "CAM_BACK_LEFT": (110, 1256.7, (-0.5, 0.1, -0.25)),
    "CAM_BACK_RIGHT": (-110, 1259.5, (0.5, 0.1, -0.25)),
}
"""Direction of view (degrees, 0 is forward, counter-clockwise), focal length (pixels), position in the LiDAR frame."""
_SKY_TOP, _SKY_LOW, _HAZE = (96, 146, 203), (214, 224, 232), (203, 212, 218)
_ASPHALT, _PAINT, _PAVEMENT, _GRASS = (86, 88, 92), (226, 226, 220), (158, 154, 148), (104, 126, 78)
_HAZE_METRES = 90.0
_LIGHT = np.array([-0.45, 0.3, 0.84])
_NEAREST_METRES = 0.3

Color = tuple[int, int, int]


@dataclass(frozen=True)
class _Box:
    """An object that moves along the road: start on the street, (width, length, height), speed in m/s, colour."""

    start: tuple[float, float]
    size: tuple[float, float, float]
    speed: float
    color: Color


@dataclass(frozen=True)
class _Scene:
    """One drive: where the street lies in the world, how the ego moves on it, and what else is there."""

    name: str
    street_heading: float
    street_origin: tuple[float, float]
    speed: float
    turn_rate: float
    command: Command
    boxes: tuple[_Box, ...]


_CAR, _TRUCK, _PERSON, _CONE = (1.9, 4.6, 1.6), (2.5, 8.0, 3.3), (0.7, 0.7, 1.75), (0.4, 0.4, 0.9)
_SCENES = (
    _Scene(
        "street-1", 0.6, (410.0, 1180.0), 7.0, 0.0, Command.STRAIGHT,
        (
            _Box((17, -1.7), _CAR, 6.0, (178, 34, 41)), _Box((33, 1.9), _CAR, -8.0, (232, 232, 228)),
            _Box((-14, -1.8), _CAR, 8.0, (36, 72, 138)), _Box((8, -5.4), _CAR, 0.0, (48, 50, 54)),
            _Box((24, -5.4), _TRUCK, 0.0, (206, 160, 52)), _Box((-7, 5.4), _CAR, 0.0, (120, 132, 128)),
            _Box((13, -8.4), _PERSON, 1.3, (52, 92, 74)), _Box((15, 8.2), _PERSON, -1.2, (150, 62, 88)),
        ),
    ),
    _Scene(
        "street-2", 2.1, (630.0, 1515.0), 5.0, 0.12, Command.LEFT,
        (
            _Box((21, 1.9), _TRUCK, -5.0, (70, 110, 92)), _Box((16, -1.8), _CAR, 4.0, (222, 180, 40)),
            _Box((-11, -1.8), _CAR, 5.0, (142, 30, 60)), _Box((6, -5.4), _CAR, 0.0, (232, 232, 228)),
            _Box((12, -6.7), _CONE, 0.0, (226, 98, 26)), _Box((14, -6.5), _CONE, 0.0, (226, 98, 26)),
            _Box((9, 8.0), _PERSON, 1.4, (62, 66, 120)),
        ),
    ),
)  # fmt: skip


def synthetic_frames(frames_per_scene: int = 3) -> Iterator[Frame]:
    """Frames with rendered RGB images, one at a time."""
    for scene in _SCENES:
        for i in range(frames_per_scene):
            yield _frame(scene, i, i * _STEP_SECONDS)


def write_synthetic_frames(folder: Path, frames_per_scene: int = 3) -> list[Path]:
    """Write the drive as a frame folder; return the JSON paths."""
    return [write_frame(frame, folder) for frame in synthetic_frames(frames_per_scene)]


def _frame(scene: _Scene, index: int, time: float) -> Frame:
    yaw = scene.turn_rate * time
    driven = scene.speed * time
    ego2street = _about_z(yaw, (driven, -1.8 + driven * yaw / 2, 0.0))
    street2global = _about_z(scene.street_heading, (*scene.street_origin, 0.0))
    lidar2street = _chain(ego2street, _LIDAR2EGO)
    cameras = {}
    for name in _CAMERAS:
        intrinsics, sensor2lidar = _calibration(name)
        image = _render(scene, time, intrinsics, _chain(lidar2street, sensor2lidar))
        cameras[name] = CameraView(image, intrinsics, sensor2lidar)
    return Frame(
        name=f"{scene.name}_{index:03d}",
        scene=scene.name,
        timestamp=time,
        cameras=cameras,
        lidar2ego=_LIDAR2EGO,
        ego2global=_chain(street2global, ego2street),
        command=scene.command,
        can=CanReading(
            acceleration=np.array([0.0, scene.speed * scene.turn_rate, 9.81]),
            rotation_rate=np.array([0.0, 0.0, scene.turn_rate]),
            velocity=np.array([scene.speed, 0.0, 0.0]),
        ),
    )


def _calibration(camera: str) -> tuple[Float64Array, Pose]:
    """Intrinsics [3, 3] and the camera's pose in the LiDAR frame."""
    degrees, focal, position = _CAMERAS[camera]
    angle = math.radians(degrees)
    forward = np.array([-math.sin(angle), math.cos(angle), 0.0])
    down = np.array([0.0, 0.0, -1.0])
    axes = np.stack([np.cross(down, forward), down, forward], axis=1)
    intrinsics = np.array([[focal, 0.0, 816.0], [0.0, focal, 491.0], [0.0, 0.0, 1.0]])
    return intrinsics, Pose.from_matrix(axes, np.array(position))


def _about_z(angle: float, translation: tuple[float, float, float]) -> Pose:
    return Pose(np.array([math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)]), np.array(translation))


def _chain(outer: Pose, inner: Pose) -> Pose:
    """First `inner`, then `outer`."""
    return Pose.from_matrix(outer.rotation @ inner.rotation, outer.rotation @ inner.translation + outer.translation)


def _render(scene: _Scene, time: float, intrinsics: Float64Array, camera: Pose) -> NDArray[np.uint8]:
    """RGB picture of `scene`; `camera` is the camera's pose on the street."""
    image = _render_surroundings(intrinsics, camera)
    boxes = [_corners(box, time) for box in scene.boxes]
    distances = [float(np.linalg.norm(corners.mean(0) - camera.translation)) for corners in boxes]
    for i in np.argsort(distances)[::-1]:
        color = np.array(scene.boxes[i].color, np.float64)
        _draw_box(image, boxes[i], color, math.exp(-distances[i] / _HAZE_METRES), intrinsics, camera)
    return image


def _render_surroundings(intrinsics: Float64Array, camera: Pose) -> NDArray[np.uint8]:
    """Sky and ground, cast ray by ray at half size."""
    width, height = ImageConfig().source_width, ImageConfig().source_height
    u, v = np.meshgrid(np.arange(0.5, width, 2), np.arange(0.5, height, 2))
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(intrinsics).T @ camera.rotation.T
    steepness = rays[..., 2] / np.linalg.norm(rays, axis=-1)
    sky = _mix(_SKY_LOW, _SKY_TOP, np.clip(steepness * 2.5, 0, 1))
    distance = camera.translation[2] / np.maximum(-rays[..., 2], 1e-4)
    x, y = (camera.translation[i] + distance * rays[..., i] for i in range(2))
    ground = _mix(_HAZE, _ground_color(x, y), np.exp(-distance / _HAZE_METRES))
    image = np.where(steepness[..., None] > 0, sky, ground).astype(np.uint8)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _ground_color(x: Float64Array, y: Float64Array) -> Float64Array:
    """[..., 3]: four lanes with painted lines, pavements, grass; patches of a few metres vary a little."""
    side = np.abs(y)
    dashed = (np.abs(side - 3.6) < 0.08) & (x % 6 < 3)
    solid = (np.abs(side - 7.1) < 0.08) | (np.abs(side - 0.12) < 0.06)
    crossing = (np.abs(x - 27) < 1.6) & (side < 6.8) & (y % 1.2 < 0.6)
    choices = [dashed | solid | crossing, side < 7.3, side < 9.5]
    color = np.select([c[..., None] for c in choices], [np.array(c) for c in (_PAINT, _ASPHALT, _PAVEMENT)], _GRASS)
    patches = np.sin(1.3 * x + 0.7 * np.sin(2.1 * y)) * np.sin(1.7 * y + 0.9 * np.sin(0.6 * x))
    shaded: Float64Array = color * (1 + 0.06 * patches[..., None])
    return shaded


def _corners(box: _Box, time: float) -> Float64Array:
    """[8, 3] on the street; bits of the index say which of two sides: 4 front, 2 left, 1 top."""
    sides = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)]) - np.array([0.5, 0.5, 0.0])
    width, length, height = box.size
    x, y = box.start
    corners: Float64Array = np.array([x + box.speed * time, y, 0.0]) + sides * np.array([length, width, height])
    return corners


def _draw_box(
    image: NDArray[np.uint8],
    corners: Float64Array,
    color: Float64Array,
    clarity: float,
    intrinsics: Float64Array,
    camera: Pose,
) -> None:
    """Paint the faces that look at the camera, shaded by their direction to the light."""
    faces = {(1, 0, 0): (4, 5, 7, 6), (-1, 0, 0): (0, 1, 3, 2), (0, 1, 0): (2, 3, 7, 6), (0, -1, 0): (0, 1, 5, 4),
             (0, 0, 1): (1, 3, 7, 5)}  # fmt: skip
    for normal, indices in faces.items():
        face = corners[list(indices)]
        if (camera.translation - face[0]) @ normal <= 0:
            continue
        polygon = _clip((face - camera.translation) @ camera.rotation)
        if len(polygon):
            pixels = polygon @ intrinsics.T
            points = np.clip(pixels[:, :2] / pixels[:, 2:], -1e4, 1e4).round().astype(np.int32)
            shade: Float64Array = color * (0.7 + 0.3 * float(_LIGHT @ normal))
            rgb = _mix(_HAZE, shade, np.array(clarity))
            cv2.fillPoly(image, [points], rgb.tolist(), cv2.LINE_AA)


def _clip(polygon: Float64Array) -> Float64Array:
    """The part of a polygon [n, 3] in camera coordinates in front of the nearest depth (Sutherland-Hodgman)."""
    kept = []
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if a[2] >= _NEAREST_METRES:
            kept.append(a)
        if (a[2] >= _NEAREST_METRES) != (b[2] >= _NEAREST_METRES):
            kept.append(a + (b - a) * (_NEAREST_METRES - a[2]) / (b[2] - a[2]))
    return np.array(kept)


def _mix(a: Color, b: Color | Float64Array, share: Float64Array) -> Float64Array:
    """[..., 3]: from `a` (share 0) to `b` (share 1)."""
    mixed: Float64Array = np.array(a) + (np.array(b) - np.array(a)) * share[..., None]
    return mixed
