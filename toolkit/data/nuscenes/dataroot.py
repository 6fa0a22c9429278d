"""Frames from a nuScenes dataroot, read through nuScenes' devkit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.config.model import CAMERAS
from toolkit.data.fields import intrinsics_field, object_field
from toolkit.data.frames import CameraView, CanReading, Command, Float64Array, Frame, Pose
from toolkit.data.nuscenes.can_bus import can_bus_folder, can_reading, is_unpacked, pose_messages
from toolkit.data.nuscenes.devkit import open_tables, readable
from toolkit.data.nuscenes.key_frames import KeyFrame, frames_of, require_images
from toolkit.data.nuscenes.records import samples_of, sensor_poses
from toolkit.data.nuscenes.scenes import select_scenes

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

logger = logging.getLogger(__name__)

_UNIT_TOLERANCE = 1e-14
"""Quaternions whose squares deviate from 1 by less are taken as they are."""


def read_dataroot(
    dataroot: Path,
    cameras: Sequence[str] = CAMERAS,
    *,
    version: str | None = None,
    split: str | None = None,
    scenes: Sequence[str] = (),
    command: Command | None = None,
    warn: Callable[[str], None] = logger.warning,
) -> list[Frame]:
    """The key frames of the chosen scenes, by default all, in the order of time.

    Images are only checked to be there. Scenes without CAN bus data read zero, with one warning. Raises InputError for
    a missing devkit, folder, version, table, split, scene or image.
    """
    tables = open_tables(dataroot, version)
    key_frames: list[KeyFrame] = []
    silent: list[str] = []
    can_bus = can_bus_folder(dataroot)
    with readable(Path(tables.table_root)):
        chosen = select_scenes(tables, split, scenes)
        for scene in chosen:
            messages = pose_messages(can_bus, scene["name"])
            if not messages:
                silent.append(scene["name"])
            for sample in samples_of(tables, scene):
                where = f"{can_bus / scene['name']}_pose.json"
                can = can_reading(messages, sample["timestamp"], where) if messages else CanReading()
                key_frames.append(_key_frame(tables, sample, scene["name"], cameras, can))
        frames = frames_of(key_frames, command)
    require_images(frames, "unpack the camera archives of these scenes there, or choose scenes that are complete")
    if silent:
        known = (
            "as in the reference" if is_unpacked(can_bus) else "unlike in training: unpack the CAN bus expansion there"
        )
        warn(
            f"{len(silent)} of {len(chosen)} scenes have no CAN bus data in {can_bus}, first {silent[0]}; "
            f"their accelerations, rotation rates and velocities are zero, {known}"
        )
    return frames


def sensor_to_lidar(sensor2ego: Pose, ego2global_then: Pose, lidar2ego: Pose, ego2global: Pose) -> Pose:
    """From a sensor at its exposure, through the ego's pose at that time, to the LiDAR at its own time.

    In the reference's order of operations, so that it agrees to the last bit with info files made by it.
    """
    exposed, scanned = _rotation(ego2global_then), _rotation(ego2global)
    mounted = np.linalg.inv(_rotation(lidar2ego)).T
    to_lidar = np.linalg.inv(scanned).T @ mounted
    rotation = (_rotation(sensor2ego).T @ exposed.T) @ to_lidar
    translation = (sensor2ego.translation @ exposed.T + ego2global_then.translation) @ to_lidar
    translation -= ego2global.translation @ to_lidar + lidar2ego.translation @ mounted
    return Pose.from_matrix(rotation.T, translation)


def _rotation(pose: Pose) -> Float64Array:
    """[3, 3], rounded as by pyquaternion, which the reference uses: the product of two 4x4 matrices."""
    w, x, y, z = pose.quaternion
    squares = np.dot(pose.quaternion, pose.quaternion)
    if abs(1.0 - squares) >= _UNIT_TOLERANCE:
        w, x, y, z = pose.quaternion / np.sqrt(squares)
    left = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    right = np.array([[w, -x, -y, -z], [x, w, z, -y], [y, -z, w, x], [z, y, -x, w]])
    product: Float64Array = np.dot(left, right.T)
    return product[1:, 1:]


def _key_frame(
    tables: NuScenes, sample: dict[str, Any], scene: str, cameras: Sequence[str], can: CanReading
) -> KeyFrame:
    where = f"{tables.table_root}: sample {sample['token']}"
    data = object_field(sample["data"], f"{where}: data", ("LIDAR_TOP", *cameras), optional=None)
    lidar2ego, ego2global, _ = sensor_poses(tables, data["LIDAR_TOP"], f"{where}: LIDAR_TOP")
    views = {}
    for camera in cameras:
        sensor2ego, ego2global_then, intrinsics = sensor_poses(tables, data[camera], f"{where}: {camera}")
        views[camera] = CameraView(
            image=Path(tables.get_sample_data_path(data[camera])),
            intrinsics=intrinsics_field(intrinsics, f"{where}: {camera}.camera_intrinsic"),
            sensor2lidar=sensor_to_lidar(sensor2ego, ego2global_then, lidar2ego, ego2global),
        )
    return KeyFrame(sample["token"], scene, int(sample["timestamp"]), views, lidar2ego, ego2global, can)
