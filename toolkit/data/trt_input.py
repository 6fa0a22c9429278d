"""Frames from the folder `uniad_trt_input` that the reference's deployment project prepares for its C++ program.

It holds a folder for every input, in which `{t}.bin` is that input at frame t: little-endian float32 without a header.
Line t of `info.txt` names the six images, each followed by a semicolon. What the camera calibration and the poses were
is no longer there, only the tensors made of them. These are fed as they are; the frame's poses and calibration are
worked out from them, for drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from toolkit.config.model import CAMERAS, ImageConfig
from toolkit.data.ego_motion import recorded_pose
from toolkit.data.fields import array_field, command_field, pose_field
from toolkit.data.frames import CameraView, CanReading, Float64Array, Frame, Pose
from toolkit.data.nuscenes.key_frames import image_path, require_images
from toolkit.errors import InputError
from toolkit.storage.regular_file import open_regular, read_regular
from toolkit.text import one_line

_SHAPES = {
    "timestamp": (1,), "l2g_r_mat": (3, 3), "l2g_t": (3,), "command": (1,), "img_metas_can_bus": (18,),
    "img_metas_lidar2img": (len(CAMERAS), 4, 4), "img_metas_scene_token": (32,),
}  # fmt: skip
"""Values of a frame by folder."""
_MAX_BYTES = 2**26
"""All of nuScenes takes 20 MB of lines."""


@dataclass(frozen=True, eq=False)
class _Record:
    """One frame's values, in float64, and the images of its line."""

    where: str
    values: dict[str, Float64Array]
    images: tuple[Path, ...]

    @property
    def scene(self) -> str:
        """The token, whose characters are stored as numbers."""
        codes = self.values["img_metas_scene_token"]
        if not all(33 <= code <= 126 and code == int(code) for code in codes):
            raise InputError(f"{self.where}: img_metas_scene_token: holds other numbers than character codes")
        return "".join(chr(int(code)) for code in codes)


def read_trt_input(folder: Path, image: ImageConfig, dataroot: Path | None = None) -> list[Frame]:
    """The frames of a `uniad_trt_input` folder; image paths as recorded, or below `dataroot` from samples/ on.

    Raises InputError if files or images are missing or of the wrong size, or the model takes other cameras.
    """
    if image.cameras != CAMERAS:
        raise InputError(f"{folder}: holds tensors of the cameras {', '.join(CAMERAS)}; the model takes others")
    records = [_record(folder, number, images) for number, images in enumerate(_image_lines(folder, dataroot))]
    starts: dict[str, float] = {}
    for record in records:
        starts.setdefault(record.scene, float(record.values["timestamp"][0]))
    positions = np.cumsum([record.values["img_metas_can_bus"][:3] for record in records], axis=0)
    frames = [
        _frame(f"{number:05d}", record, position, starts[record.scene], image.scale)
        for number, (record, position) in enumerate(zip(records, positions, strict=True))
    ]
    require_images(frames, "give the nuScenes folder that holds samples/ as ?dataroot=…")
    return frames


def _image_lines(folder: Path, dataroot: Path | None) -> list[tuple[Path, ...]]:
    info = folder / "info.txt"
    try:
        lines = read_regular(info, _MAX_BYTES).decode().splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{info}: cannot be read ({one_line(error)}); give the folder uniad_trt_input") from error
    if not lines:
        raise InputError(f"{info}: names no frame; prepare the folder again")
    return [_images(line, f"{info}: line {number}", dataroot) for number, line in enumerate(lines, 1)]


def _images(line: str, where: str, dataroot: Path | None) -> tuple[Path, ...]:
    names = [name.strip() for name in line.split(";") if name.strip()]
    if len(names) != len(CAMERAS):
        raise InputError(f"{where}: names {len(names)} images; a frame has {len(CAMERAS)}, each ended by a semicolon")
    return tuple(image_path(name, dataroot) for name in names)


def _record(folder: Path, number: int, images: tuple[Path, ...]) -> _Record:
    values = {name: _tensor(folder / name / f"{number}.bin", shape) for name, shape in _SHAPES.items()}
    return _Record(f"{folder}: frame {number}", values, images)


def _tensor(path: Path, shape: Sequence[int]) -> Float64Array:
    size = 4 * int(np.prod(shape))
    try:
        with open_regular(path) as file:
            data = file.read(size + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); prepare the folder again") from error
    if len(data) != size:
        raise InputError(f"{path}: has {'more' if len(data) > size else 'fewer'} than {size} bytes; prepare it again")
    return array_field(np.frombuffer(data, "<f4").reshape(shape), str(path), tuple(shape))


def _frame(name: str, record: _Record, position: Float64Array, start: float, scale: float) -> Frame:
    """The frame of a record whose ego is at global `position` (m), in a scene that began at `start` (s)."""
    values, where = record.values, record.where
    can = values["img_metas_can_bus"]
    ego2global = recorded_pose(can, position, f"{where}: img_metas_can_bus")
    axes = ego2global.rotation
    pose_field(values["l2g_r_mat"], values["l2g_t"], f"{where}: l2g")
    recorded = {
        "lidar2img": values["img_metas_lidar2img"],
        "can_bus": can,
        "l2g_rotation": values["l2g_r_mat"],
        "l2g_translation": values["l2g_t"],
    }
    return Frame(
        name=name,
        scene=record.scene,
        timestamp=float(values["timestamp"][0]) - start,
        cameras={
            camera: _view(path, matrix, scale, f"{where}: img_metas_lidar2img of {camera}")
            for camera, path, matrix in zip(CAMERAS, record.images, values["img_metas_lidar2img"], strict=True)
        },
        lidar2ego=Pose.from_matrix(axes.T @ values["l2g_r_mat"].T, (values["l2g_t"] - position) @ axes),
        ego2global=ego2global,
        command=command_field(float(values["command"][0]), f"{where}: command"),
        can=CanReading(can[7:10], can[10:13], can[13:16]),
        recorded={name: array.astype(np.float32) for name, array in recorded.items()},
    )


def _view(path: Path, lidar2img: Float64Array, scale: float, where: str) -> CameraView:
    """Camera matrix and pose out of their product, a projection [4, 4] to pixels of the scaled image."""
    projection = np.diag([1 / scale, 1 / scale, 1.0]) @ lidar2img[:3]
    _, intrinsics, rotation, *_ = cv2.RQDecomp3x3(projection[:, :3])
    signs = np.diag(np.sign(np.diag(intrinsics)))  # a decomposition is unique up to these
    intrinsics, rotation = intrinsics @ signs, signs @ rotation
    if not np.isclose(intrinsics[2, 2], 1, atol=1e-3) or np.linalg.det(rotation) <= 0:
        raise InputError(f"{where}: is no product of a camera matrix and a rigid transform; prepare the folder again")
    translation = np.linalg.solve(intrinsics, projection[:, 3])
    return CameraView(path, intrinsics, Pose.from_matrix(rotation.T, -rotation.T @ translation))
