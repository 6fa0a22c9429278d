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

from toolkit.config.model import CAMERAS
from toolkit.data.fields import (
    array_field,
    command_field,
    intrinsics_field,
    name_field,
    object_field,
    pose_field,
    text_field,
)
from toolkit.data.frames import CameraView, CanReading, Frame, Pose
from toolkit.errors import InputError
from toolkit.storage.json_file import read_json
from toolkit.storage.outputs import new_file
from toolkit.text import quoted

_JPEG_QUALITY = 95
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
                    f"{path}: scene: {quoted(frame.scene)} appears again after other scenes. Frames run in the order "
                    "of their file names: rename them so that a scene's frames are together"
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
    values = object_field(
        read_json(path), root, ("scene", "timestamp", "command", "cameras", "lidar2ego", "ego2global"), ("can_bus",)
    )
    views = object_field(values["cameras"], f"{root}cameras", cameras, optional=None)
    return Frame(
        name=path.stem,
        scene=name_field(values["scene"], f"{root}scene"),
        timestamp=_seconds(values["timestamp"], f"{root}timestamp"),
        cameras={name: _camera(views[name], f"{root}cameras.{name}", path.parent) for name in cameras},
        lidar2ego=_pose(values["lidar2ego"], f"{root}lidar2ego"),
        ego2global=_pose(values["ego2global"], f"{root}ego2global"),
        command=command_field(values["command"], f"{root}command"),
        can=_can_reading(values.get("can_bus", {}), f"{root}can_bus"),
    )


def _camera(value: Any, where: str, folder: Path) -> CameraView:
    view = object_field(value, where, ("image", "intrinsics", "sensor2lidar"))
    image = folder / text_field(view["image"], f"{where}.image")
    if not os.path.isfile(image):  # unlike Path.is_file, it takes any name
        raise InputError(f"{where}.image: {image} does not exist; give a path relative to the JSON's folder")
    intrinsics = intrinsics_field(view["intrinsics"], f"{where}.intrinsics")
    return CameraView(image, intrinsics, _pose(view["sensor2lidar"], f"{where}.sensor2lidar"))


def _pose(value: Any, where: str) -> Pose:
    pose = object_field(value, where, ("rotation", "translation"))
    return pose_field(pose["rotation"], pose["translation"], where)


def _can_reading(value: Any, where: str) -> CanReading:
    can = object_field(value, where, (), ("acceleration", "rotation_rate", "velocity"))
    return CanReading(**{name: array_field(reading, f"{where}.{name}", (3,)) for name, reading in can.items()})


def _seconds(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise InputError(f"{where}: expected a finite number of seconds, found {quoted(value)}")
    if abs(value) > _LATEST_SECONDS:
        raise InputError(f"{where}: {quoted(value)} is too large for seconds; divide by 1e6 if it counts microseconds")
    return float(value)
