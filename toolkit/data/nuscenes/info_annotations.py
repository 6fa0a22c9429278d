"""Ground truth of key frames from the reference's info files, as far as these hold it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.fields import array_field, object_field, text_field
from toolkit.data.frames import Float64Array, Pose
from toolkit.data.ground_truth import AnnotatedFrame, GroundTruth, Layers, Objects, objects_at
from toolkit.data.nuscenes.infos import info_pose, load_infos, plain_fields, require_scenes, time_field
from toolkit.data.nuscenes.key_frames import scenes_of
from toolkit.errors import InputError, inside
from toolkit.storage.typed import number_array
from toolkit.text import quoted

_FIELDS = ("token", "scene_token", "timestamp", "lidar2ego_rotation", "lidar2ego_translation", "ego2global_rotation",
           "ego2global_translation")  # fmt: skip
_BOXES = "gt_boxes"
"""Missing in the info files of a test set."""
_OF_BOXES = ("gt_names", "gt_velocity", "gt_inds", "num_lidar_pts", "valid_flag")
_REMEDY = "create the info files again"
_MOVING = 2.0
"""An object of at least this speed (m/s) shows by its velocity where it heads."""


@dataclass(frozen=True, eq=False)
class _Labels:
    """Boxes [N, 7] of a frame as its info has them (x, y, z, width, length, height, yaw), and what belongs to them."""

    boxes: Float64Array
    velocity: Float64Array
    names: tuple[str, ...]
    number: NDArray[np.int64]
    instance: tuple[str, ...]
    lidar_points: NDArray[np.int64]
    radar_points: NDArray[np.int64]
    visibility: NDArray[np.int64]


def read_info_ground_truth(path: Path, *, scenes: Sequence[str] = ()) -> GroundTruth:
    """The scenes of an info file in the order of time; `scenes` chooses by token. Of maps it knows nothing.

    The file is read without running code from it. Raises InputError if it is damaged or a field is amiss.
    """
    infos = {
        f"{path}: infos[{i}]": plain_fields(object_field(info, f"{path}: infos[{i}]", _FIELDS, optional=None))
        for i, info in enumerate(load_infos(path))
    }
    names = {where: text_field(info["scene_token"], f"{where}.scene_token") for where, info in infos.items()}
    require_scenes(path, scenes, list(names.values()))
    labels = {where: _labels(info, where) for where, info in infos.items() if _BOXES in info}
    as_heading = _yaw_is_heading(list(labels.values()))
    members: dict[str, list[AnnotatedFrame]] = defaultdict(list)
    for where, info in infos.items():
        if not scenes or names[where] in scenes:
            members[names[where]].append(_frame(info, where, labels.get(where), as_heading=as_heading))
    with inside(f"{path}"):
        return GroundTruth(tuple(scenes_of(members, {})), _no_map)


def _no_map(location: str, names: Sequence[str]) -> Layers | None:
    return None


def _labels(info: dict[str, Any], where: str) -> _Labels:
    object_field(info, where, _OF_BOXES, optional=None)
    names = _column(info["gt_names"], f"{where}.gt_names", None, "U")
    count = len(names)
    number, points = (_column(info[name], f"{where}.{name}", count, "iu") for name in ("gt_inds", "num_lidar_pts"))
    hit = _column(info["valid_flag"], f"{where}.valid_flag", count, "b")
    radar_points = info.get("num_radar_pts", (hit & (points == 0)).astype(np.int64))
    instance = _column(info.get("gt_ins_tokens", number.astype(str)), f"{where}.gt_ins_tokens", count, "U")
    visibility = info.get("visibility_tokens", np.zeros(count, np.int64))
    return _Labels(
        boxes=array_field(info[_BOXES], f"{where}.{_BOXES}", (count, 7)) if count else np.zeros((0, 7)),
        velocity=_velocity(info["gt_velocity"], f"{where}.gt_velocity", count),
        names=tuple(names.tolist()),
        number=number,
        instance=tuple(instance.tolist()),
        lidar_points=points,
        radar_points=_column(radar_points, f"{where}.num_radar_pts", count, "iu"),
        visibility=_column(visibility, f"{where}.visibility_tokens", count, "iu"),
    )


def _velocity(value: Any, where: str, count: int) -> Float64Array:
    """[N, 2]; NaN where unknown."""
    try:
        return number_array(value, (count, 2)) if count else np.zeros((0, 2))
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _column(value: Any, where: str, count: int | None, kinds: str) -> NDArray[Any]:
    """An array [N] of one of the `kinds` of numpy's types, N being `count` unless that is None."""
    empty = isinstance(value, np.ndarray) and value.size == 0 and not count
    if empty:
        return np.zeros(0, value.dtype if value.dtype.kind in kinds else kinds[0])
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in kinds:
        raise InputError(f"{where}: is no array with one value for each box, found {quoted(value)}; {_REMEDY}")
    if count is not None and len(value) != count:
        raise InputError(f"{where}: has {len(value)} values for {count} boxes; {_REMEDY}")
    return value


def _yaw_is_heading(labels: Sequence[_Labels]) -> bool:
    """Whether the file's yaw is the heading, as mmdetection3d 1.0 has it, or -heading - π/2 as before.

    Both make boxes of the same seven numbers; what moves tells them apart, since it moves ahead.
    """
    velocity = np.concatenate([np.zeros((0, 2)), *(one.velocity for one in labels)])
    yaw = np.concatenate([np.zeros(0), *(one.boxes[:, 6] for one in labels)])
    moving = np.hypot(*velocity.T) >= _MOVING
    direction, yaw = np.arctan2(velocity[moving, 1], velocity[moving, 0]), yaw[moving]
    return bool(np.cos(direction - yaw).sum() > np.cos(direction + yaw + np.pi / 2).sum())


def _frame(info: dict[str, Any], where: str, labels: _Labels | None, *, as_heading: bool) -> AnnotatedFrame:
    lidar2ego, ego2global = (info_pose(info, name, where) for name in ("lidar2ego", "ego2global"))
    return AnnotatedFrame(
        token=text_field(info["token"], f"{where}.token"),
        microseconds=time_field(info["timestamp"], f"{where}.timestamp"),
        lidar2ego=lidar2ego,
        ego2global=ego2global,
        objects=None if labels is None else _objects(labels, lidar2ego, ego2global, as_heading=as_heading),
    )


def _objects(labels: _Labels, lidar2ego: Pose, ego2global: Pose, *, as_heading: bool) -> Objects:
    """Objects stand upright in the world, as all of nuScenes do, from which their heading there follows."""
    to_global = ego2global.rotation @ lidar2ego.rotation
    origin = ego2global.rotation @ lidar2ego.translation + ego2global.translation
    yaw = labels.boxes[:, 6]
    heading = (yaw if as_heading else -yaw - np.pi / 2) + np.arctan2(to_global[1, 0], to_global[0, 0])
    zero = np.zeros_like(heading)
    return objects_at(
        lidar2ego,
        ego2global,
        instance=labels.instance,
        number=labels.number,
        label=labels.names,
        size=labels.boxes[:, 3:6],
        position=labels.boxes[:, :3] @ to_global.T + origin,
        quaternion=np.stack((np.cos(heading / 2), zero, zero, np.sin(heading / 2)), -1),
        velocity=labels.velocity @ np.linalg.inv(to_global.T[:2, :2]).T,
        lidar_points=labels.lidar_points,
        radar_points=labels.radar_points,
        visibility=labels.visibility,
    )
