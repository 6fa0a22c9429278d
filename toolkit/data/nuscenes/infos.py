"""Frames from the reference's info files, nuscenes_infos_temporal_*.pkl."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.config.model import CAMERAS
from toolkit.data.fields import array_field, intrinsics_field, name_field, object_field, pose_field, text_field
from toolkit.data.frames import CameraView, CanReading, Command, Frame, Pose
from toolkit.data.nuscenes.key_frames import KeyFrame, frames_of, image_path, require_images
from toolkit.errors import InputError, inside
from toolkit.storage.regular_file import read_regular, readable_file
from toolkit.storage.untrusted import Array, load_numpy_pickle
from toolkit.text import one_line, quoted

_FIELDS = ("token", "scene_token", "timestamp", "can_bus", "cams", "lidar2ego_rotation", "lidar2ego_translation",
           "ego2global_rotation", "ego2global_translation")  # fmt: skip
_OTHER_SOURCE = "use nuscenes:DATAROOT, or make the file with UniAD's own converter"
_MAX_BYTES = 2**32
"""Those of all of nuScenes have hundreds of megabytes."""
_CAMERA_FIELDS = ("data_path", "cam_intrinsic", "sensor2lidar_rotation", "sensor2lidar_translation")


def read_infos(
    path: Path,
    cameras: Sequence[str] = CAMERAS,
    *,
    dataroot: Path | None = None,
    scenes: Sequence[str] = (),
    command: Command | None = None,
) -> list[Frame]:
    """The frames of an info file in the order of time; `scenes` chooses by scene token.

    Image paths are taken as recorded, or below `dataroot` from their folder samples/ on. The file is read without
    running code from it. Raises InputError if it is damaged or holds anything but plain data, if a field is amiss, a
    scene unknown or an image missing.
    """
    infos = load_infos(path)
    key_frames = [_key_frame(info, f"{path}: infos[{i}]", cameras, dataroot) for i, info in enumerate(infos)]
    require_scenes(path, scenes, [key_frame.scene for key_frame in key_frames])
    with inside(f"{path}"):
        frames = frames_of([one for one in key_frames if not scenes or one.scene in scenes], command)
    require_images(frames, "give the nuScenes folder that holds samples/ as ?dataroot=…")
    return frames


def load_infos(path: Path) -> list[Any]:
    """The infos of a file, one a frame. Raises InputError for a file that is damaged or of another project."""
    readable_file(path, "info file")
    try:
        content = load_numpy_pickle(read_regular(path, _MAX_BYTES))
    # Foreign bytes can make a parser fail in any way.
    except Exception as error:
        raise InputError(
            f"info file {path} cannot be read: {one_line(error)}; give a nuscenes_infos_temporal_*.pkl of the reference"
        ) from error
    return _infos_in(content, path)


def _infos_in(content: Any, path: Path) -> list[Any]:
    """The infos of a file: under "infos", or the bare list. Raises InputError for a file of another project."""
    if isinstance(content, dict) and "data_list" in content:
        raise InputError(
            f"{path}: is an info file of mmdetection3d 1.x (data_list), which lacks can_bus and scenes; {_OTHER_SOURCE}"
        )
    bare = isinstance(content, list) and all(isinstance(info, dict) for info in content)
    wrapped = {"infos": content} if bare else content
    infos = object_field(wrapped, f"{path}: ", ("infos",), optional=None)["infos"]
    if not isinstance(infos, list) or not infos:
        raise InputError(f"{path}: infos: holds no frame; create the info files again")
    missing = [name for name in _FIELDS if all(isinstance(info, dict) and name not in info for info in infos)]
    if missing:
        raise InputError(
            f"{path}: none of its frames has {', '.join(missing)}: another project made it; {_OTHER_SOURCE}"
        )
    return infos


def require_scenes(path: Path, scenes: Sequence[str], known: Sequence[str]) -> None:
    """Raise InputError if one of the `scenes` is not among those that an info file knows, one a frame."""
    unknown = [scene for scene in scenes if scene not in known]
    if unknown:
        raise InputError(
            f"{path}: has no scene {unknown[0]}; info files name their {len(set(known))} scenes by token, "
            f"such as {known[0]}"
        )


def _key_frame(info: Any, where: str, cameras: Sequence[str], dataroot: Path | None) -> KeyFrame:
    values = plain_fields(object_field(info, where, _FIELDS, optional=None))
    views = object_field(values["cams"], f"{where}.cams", cameras, optional=None)
    can = array_field(values["can_bus"], f"{where}.can_bus", (18,))
    return KeyFrame(
        token=name_field(values["token"], f"{where}.token"),
        scene=name_field(values["scene_token"], f"{where}.scene_token"),
        microseconds=time_field(values["timestamp"], f"{where}.timestamp"),
        cameras={name: _camera(views[name], f"{where}.cams.{name}", dataroot) for name in cameras},
        lidar2ego=info_pose(values, "lidar2ego", where),
        ego2global=info_pose(values, "ego2global", where),
        can=CanReading(can[7:10], can[10:13], can[13:16]),
    )


def _camera(value: Any, where: str, dataroot: Path | None) -> CameraView:
    values = plain_fields(object_field(value, where, _CAMERA_FIELDS, optional=None))
    recorded = text_field(values["data_path"], f"{where}.data_path")
    with inside(f"{where}.data_path"):
        image = image_path(recorded, dataroot)
    return CameraView(
        image=image,
        intrinsics=intrinsics_field(values["cam_intrinsic"], f"{where}.cam_intrinsic"),
        sensor2lidar=info_pose(values, "sensor2lidar", where),
    )


def time_field(value: Any, where: str) -> int:
    """A time in microseconds."""
    if type(value) is not int:
        raise InputError(f"{where}: expected whole microseconds, found {quoted(value)}")
    return value


def info_pose(values: dict[str, Any], name: str, where: str) -> Pose:
    """The pose that an info holds as `name`_rotation and `name`_translation."""
    return pose_field(values[f"{name}_rotation"], values[f"{name}_translation"], f"{where}.{name}")


def plain_fields(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of an info with arrays in place of the stand-ins with which pickles are read."""
    return {name: value.value if isinstance(value, Array) else value for name, value in values.items()}
