"""Ground truth of nuScenes key frames, read through nuScenes' devkit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.data.annotations import Annotation
from toolkit.data.fields import ROTATION_TOLERANCE, array_field, object_field, text_field
from toolkit.data.frames import Float64Array, Frame, Pose
from toolkit.data.ground_truth import AnnotatedFrame, GroundTruth, Objects, objects_at
from toolkit.data.nuscenes.devkit import open_tables, readable
from toolkit.data.nuscenes.key_frames import scenes_of
from toolkit.data.nuscenes.map_layers import read_map_layers
from toolkit.data.nuscenes.records import samples_of, sensor_poses
from toolkit.data.nuscenes.scenes import select_scenes
from toolkit.errors import InputError

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes


def read_ground_truth(
    dataroot: Path, *, version: str | None = None, split: str | None = None, scenes: Sequence[str] = ()
) -> GroundTruth:
    """What is known about the chosen scenes, by default all, in the order of time; neither images nor scans are needed.

    Raises InputError for a missing devkit, folder, version, table, split or scene, and for damaged tables.
    """
    tables = open_tables(dataroot, version)
    with readable(Path(tables.table_root)):
        chosen = select_scenes(tables, split, scenes)
        members = {record["name"]: _frames(tables, record) for record in chosen}
        places = {record["name"]: _location(tables, record) for record in chosen}
        return GroundTruth(tuple(scenes_of(members, places)), partial(read_map_layers, dataroot))


def read_annotations(
    dataroot: Path, frames: Iterable[Frame], version: str | None = None
) -> dict[str, tuple[Annotation, ...]]:
    """By frame name, the objects of the ten detection classes that LiDAR or radar has hit.

    `frames` are those of the same dataroot, whose names end in the sample's token. Raises InputError for a missing
    devkit, folder, version or table, and for damaged tables.
    """
    tables = open_tables(dataroot, version)
    with readable(Path(tables.table_root)):
        return {frame.name: tuple(_shown(tables, frame)) for frame in frames}


def _frames(tables: NuScenes, scene: dict[str, Any]) -> list[AnnotatedFrame]:
    """The frames of a scene; without objects if nothing in it is annotated."""
    frames = []
    samples = list(samples_of(tables, scene))
    annotated = any(sample["anns"] for sample in samples)
    for sample in samples:
        where = f"{tables.table_root}: sample {sample['token']}"
        data = object_field(sample["data"], f"{where}: data", ("LIDAR_TOP",), optional=None)
        lidar2ego, ego2global, _ = sensor_poses(tables, data["LIDAR_TOP"], f"{where}: LIDAR_TOP")
        objects = _objects(tables, sample, lidar2ego, ego2global) if annotated else None
        frames.append(AnnotatedFrame(sample["token"], int(sample["timestamp"]), lidar2ego, ego2global, objects))
    return frames


def _location(tables: NuScenes, scene: dict[str, Any]) -> str | None:
    location = tables.get("log", scene["log_token"])["location"]
    return text_field(location, f"{tables.table_root}: log {scene['log_token']}: location") if location else None


def _objects(tables: NuScenes, sample: dict[str, Any], lidar2ego: Pose, ego2global: Pose) -> Objects:
    from nuscenes.eval.detection.utils import category_to_detection_name

    records = [tables.get("sample_annotation", token) for token in sample["anns"]]
    where = f"{tables.table_root}: annotations of sample {sample['token']}"

    def numbers(name: str, width: int) -> Float64Array:
        values = [record[name] for record in records]
        return array_field(values, f"{where}: {name}", (len(records), width)) if records else np.zeros((0, width))

    quaternion = numbers("rotation", 4)
    if (np.abs(np.linalg.norm(quaternion, axis=-1) - 1) > ROTATION_TOLERANCE).any():
        raise InputError(
            f"{where}: rotation: holds a quaternion whose norm is not 1; unpack the metadata archive again"
        )
    velocities = [tables.box_velocity(record["token"])[:2] for record in records]
    categories = [record["category_name"] for record in records]
    return objects_at(
        lidar2ego,
        ego2global,
        instance=[record["instance_token"] for record in records],
        number=np.array([tables.getind("instance", record["instance_token"]) for record in records], np.int64),
        label=[category_to_detection_name(category) or category for category in categories],
        attribute=[_attribute(tables, record) for record in records],
        size=numbers("size", 3),
        position=numbers("translation", 3),
        quaternion=quaternion,
        velocity=np.array(velocities, np.float64).reshape(-1, 2),
        lidar_points=np.array([record["num_lidar_pts"] for record in records], np.int64),
        radar_points=np.array([record["num_radar_pts"] for record in records], np.int64),
        visibility=np.array([int(record["visibility_token"] or 0) for record in records], np.int64),
    )


def _attribute(tables: NuScenes, record: dict[str, Any]) -> str:
    """nuScenes allows one."""
    tokens = record["attribute_tokens"]
    return str(tables.get("attribute", tokens[0])["name"]) if len(tokens) == 1 else ""


def _shown(tables: NuScenes, frame: Frame) -> Iterator[Annotation]:
    from nuscenes.eval.detection.constants import DETECTION_NAMES

    objects = _objects(tables, tables.get("sample", frame.name.partition("_")[2]), frame.lidar2ego, frame.ego2global)
    velocity = np.nan_to_num(objects.velocity)
    for i in np.flatnonzero(objects.hit & np.isin(objects.label, DETECTION_NAMES)):
        x, y, z = objects.center[i].tolist()
        width, length, height = objects.size[i].tolist()
        vx, vy = velocity[i].tolist()
        yield Annotation(
            instance=objects.instance[i],
            label=objects.label[i],
            center=(x, y, z),
            size=(width, length, height),
            heading=float(objects.heading[i]),
            velocity=(vx, vy),
        )
