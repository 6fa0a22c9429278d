"""The frame folder: one JSON a frame, in the order of the file names, and its JPEG images (docs/frame-format.md)."""

from __future__ import annotations

import json
import math
import os.path
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from toolkit.config import CAMERAS
from toolkit.data.frames import CameraView, CanReading, Command, Float64Array, Frame, Pose
from toolkit.errors import InputError
from toolkit.files import new_file, read_json

_ROTATION_TOLERANCE = 1e-3
"""Largest deviation of RᵀR from the identity, or of a quaternion's norm from 1: rounding to four decimals is fine."""
_JPEG_QUALITY = 95
_LARGEST = 1e9
"""No position in metres, reading or camera parameter in pixels comes near."""
_LATEST_SECONDS = 1e11
"""A timestamp above this (the year 5138) cannot be seconds since 1970."""


def read_frame_folder(folder: Path, cameras: Sequence[str] = CAMERAS) -> list[Frame]:
    """Read and check every JSON of `folder`; images are only checked to be there, and opened when a frame is run.

    Timestamps become relative to their scene's first frame. InputError names file, field and remedy.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give the folder that holds one JSON file per frame")
    paths = sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))
    if not paths:
        raise InputError(f"{folder}: holds no frame (*.json); see docs/frame-format.md for what to put there")
    return _relative_times(paths, [_read_frame(path, cameras) for path in paths])


def write_frame(frame: Frame, folder: Path) -> Path:
    """Write one frame in the format that `read_frame_folder` reads, with its images below `folder`; return the JSON.

    JPEG files are copied, arrays are encoded. The JSON comes last, so an interrupted write leaves no partial frame.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    cameras = {}
    for name, view in frame.cameras.items():
        target = images / f"{frame.name}_{name}.jpg"
        if isinstance(view.image, Path):
            shutil.copyfile(view.image, target)
        else:
            bgr = cv2.cvtColor(view.image, cv2.COLOR_RGB2BGR)
            target.write_bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes())
        cameras[name] = {
            "image": target.relative_to(folder).as_posix(),
            "intrinsics": view.intrinsics.tolist(),
            "sensor2lidar": _pose_values(view.sensor2lidar),
        }
    values = {
        "scene": frame.scene,
        "timestamp": frame.timestamp,
        "command": frame.command.name.lower(),
        "lidar2ego": _pose_values(frame.lidar2ego),
        "ego2global": _pose_values(frame.ego2global),
        "can_bus": {
            "acceleration": frame.can.acceleration.tolist(),
            "rotation_rate": frame.can.rotation_rate.tolist(),
            "velocity": frame.can.velocity.tolist(),
        },
        "cameras": cameras,
    }
    path = folder / f"{frame.name}.json"
    with new_file(path) as file:
        file.write_text(json.dumps(values, indent=2), encoding="utf-8")
    return path


def _pose_values(pose: Pose) -> dict[str, list[float]]:
    return {"rotation": pose.quaternion.tolist(), "translation": pose.translation.tolist()}


def _relative_times(paths: Sequence[Path], frames: Sequence[Frame]) -> list[Frame]:
    """The frames with times relative to their scene's first; checks that scenes hang together and time advances."""
    starts: dict[str, float] = {}
    relative: list[Frame] = []
    for i, (path, frame) in enumerate(zip(paths, frames, strict=True)):
        before = frames[i - 1] if i else None
        if before is None or before.scene != frame.scene:
            if frame.scene in starts:
                raise InputError(
                    f"{path}: scene: {frame.scene!r} appears again after other scenes. Frames run in the order of "
                    "their file names: rename them so that a scene's frames are together"
                )
            starts[frame.scene] = frame.timestamp
        elif frame.timestamp <= before.timestamp:
            raise InputError(
                f"{path}: timestamp: {frame.timestamp} is not later than {before.timestamp} of {paths[i - 1].name}. "
                "Frames run in the order of their file names: number them with leading zeros, in temporal order"
            )
        relative.append(replace(frame, timestamp=frame.timestamp - starts[frame.scene]))
    return relative


def _read_frame(path: Path, cameras: Sequence[str]) -> Frame:
    """One frame with its timestamp as written."""
    root = f"{path}: "
    values = _object(
        read_json(path), root, ("scene", "timestamp", "command", "cameras", "lidar2ego", "ego2global"), ("can_bus",)
    )
    views = _object(values["cameras"], f"{root}cameras", cameras, optional=None)
    return Frame(
        name=path.stem,
        scene=_text(values["scene"], f"{root}scene"),
        timestamp=_seconds(values["timestamp"], f"{root}timestamp"),
        cameras={name: _camera(views[name], f"{root}cameras.{name}", path.parent) for name in cameras},
        lidar2ego=_pose(values["lidar2ego"], f"{root}lidar2ego"),
        ego2global=_pose(values["ego2global"], f"{root}ego2global"),
        command=_command(values["command"], f"{root}command"),
        can=_can_reading(values.get("can_bus", {}), f"{root}can_bus"),
    )


def _camera(value: Any, where: str, folder: Path) -> CameraView:
    view = _object(value, where, ("image", "intrinsics", "sensor2lidar"))
    image = folder / _text(view["image"], f"{where}.image")
    if not os.path.isfile(image):  # unlike Path.is_file, it takes any name
        raise InputError(f"{where}.image: {image} does not exist; give a path relative to the JSON's folder")
    intrinsics = _array(view["intrinsics"], f"{where}.intrinsics", (3, 3))
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0 or intrinsics[2].tolist() != [0, 0, 1]:
        raise InputError(
            f"{where}.intrinsics: is no camera matrix; give [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels of the "
            "full-size image, with positive focal lengths"
        )
    return CameraView(image, intrinsics, _pose(view["sensor2lidar"], f"{where}.sensor2lidar"))


def _pose(value: Any, where: str) -> Pose:
    pose = _object(value, where, ("rotation", "translation"))
    translation = _array(pose["translation"], f"{where}.translation", (3,))
    if isinstance(pose["rotation"], list) and len(pose["rotation"]) == 4:
        quaternion = _array(pose["rotation"], f"{where}.rotation", (4,))
        norm = float(np.linalg.norm(quaternion))
        if abs(norm - 1) > _ROTATION_TOLERANCE:
            raise InputError(f"{where}.rotation: the quaternion (w, x, y, z) has norm {norm:.4g}; normalise it to 1")
        return Pose(quaternion, translation)
    matrix = _array(pose["rotation"], f"{where}.rotation", (3, 3))
    deviation = float(np.abs(matrix.T @ matrix - np.eye(3)).max())
    if deviation > _ROTATION_TOLERANCE:
        raise InputError(
            f"{where}.rotation: the matrix is not orthonormal (RᵀR differs from the identity by {deviation:.3g}); "
            "give a pure rotation, without scale or shear"
        )
    if np.linalg.det(matrix) < 0:
        raise InputError(f"{where}.rotation: the matrix is a reflection; all coordinate frames here are right-handed")
    return Pose.from_matrix(matrix, translation)


def _can_reading(value: Any, where: str) -> CanReading:
    can = _object(value, where, (), ("acceleration", "rotation_rate", "velocity"))
    return CanReading(**{name: _array(reading, f"{where}.{name}", (3,)) for name, reading in can.items()})


def _command(value: Any, where: str) -> Command:
    for command in Command:
        if value == command.name.lower() or (value == command and type(value) is int):
            return command
    raise InputError(f'{where}: expected "right", "left", "straight" or 0, 1, 2 in this order, found {value!r}')


def _seconds(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise InputError(f"{where}: expected a finite number of seconds, found {value!r:.60}")
    if abs(value) > _LATEST_SECONDS:
        raise InputError(f"{where}: {value!r:.60} is too large for seconds; divide by 1e6 if it counts microseconds")
    return float(value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: expected a non-empty string, found {value!r}")
    return value


def _array(value: Any, where: str, shape: tuple[int, ...]) -> Float64Array:
    size = " x ".join(map(str, shape))
    try:
        array = np.array(value)
    except ValueError:
        array = np.array(None)
    if array.shape != shape or array.dtype.kind not in "if":
        raise InputError(f"{where}: expected {size} numbers, found {json.dumps(value):.80}")
    if not np.isfinite(array).all():
        raise InputError(f"{where}: holds a value that is not finite; leave the frame out or repair its calibration")
    if np.abs(array).max() > _LARGEST:
        raise InputError(f"{where}: holds a value above {_LARGEST:g}; give metres, pixels, m/s², rad/s or m/s")
    return array.astype(np.float64)


def _object(value: Any, where: str, required: Sequence[str], optional: Sequence[str] | None = ()) -> dict[str, Any]:
    """`value` as an object that has the `required` fields and no others than `optional` ones (None: any)."""
    if not isinstance(value, dict):
        raise InputError(f"{where.rstrip(': ')}: expected an object with named fields, found {json.dumps(value):.80}")
    inside = where if where.endswith(": ") else f"{where}."
    missing = [name for name in required if name not in value]
    if missing:
        raise InputError(f"{inside}{missing[0]}: is missing; give all of {', '.join(required)}")
    unknown = [name for name in value if optional is not None and name not in (*required, *optional)]
    if unknown:
        raise InputError(
            f"{inside}{unknown[0]}: is unknown; known here are {', '.join((*required, *(optional or ())))}"
        )
    return value
