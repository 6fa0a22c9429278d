"""Ground truth of nuScenes key frames, read through nuScenes' devkit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.data.annotations import Annotation
from toolkit.data.frames import Float64Array, Frame, Pose
from toolkit.data.nuscenes.devkit import open_tables, readable

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes


def read_annotations(
    dataroot: Path, frames: Iterable[Frame], version: str | None = None
) -> dict[str, tuple[Annotation, ...]]:
    """By frame name, the objects of the ten detection classes that LiDAR or radar has hit.

    `frames` are those of the same dataroot, whose names end in the sample's token. Raises InputError for a missing
    devkit, folder, version or table, and for damaged tables.
    """
    tables = open_tables(dataroot, version)
    with readable(Path(tables.table_root)):
        return {frame.name: tuple(_objects(tables, frame)) for frame in frames}


def _objects(tables: NuScenes, frame: Frame) -> Iterable[Annotation]:
    from nuscenes.eval.detection.utils import category_to_detection_name

    sample = tables.get("sample", frame.name.partition("_")[2])
    lidar2global = frame.ego2global.rotation @ frame.lidar2ego.rotation
    origin = frame.ego2global.rotation @ frame.lidar2ego.translation + frame.ego2global.translation
    for token in sample["anns"]:
        record = tables.get("sample_annotation", token)
        label = category_to_detection_name(record["category_name"])
        if label is not None and record["num_lidar_pts"] + record["num_radar_pts"] > 0:
            velocity = np.nan_to_num(tables.box_velocity(token))
            yield _annotation(record, label, lidar2global.T, origin, velocity)


def _annotation(
    record: dict[str, Any], label: str, to_lidar: Float64Array, origin: Float64Array, velocity: Float64Array
) -> Annotation:
    """From the global frame to the LiDAR frame: rotation [3, 3] and the LiDAR's position [3]."""
    pose = Pose(np.array(record["rotation"], np.float64), np.array(record["translation"], np.float64))
    ahead = to_lidar @ pose.rotation[:, 0]
    x, y, z = (to_lidar @ (pose.translation - origin)).tolist()
    width, length, height = record["size"]
    vx, vy, _ = (to_lidar @ velocity).tolist()
    return Annotation(
        instance=record["instance_token"],
        label=label,
        center=(x, y, z),
        size=(width, length, height),
        heading=float(np.arctan2(ahead[1], ahead[0])),
        velocity=(vx, vy),
    )
