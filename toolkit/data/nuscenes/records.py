"""Walks through the tables of nuScenes' devkit that frames and ground truth share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from toolkit.data.fields import pose_field
from toolkit.data.frames import Pose

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes


def samples_of(tables: NuScenes, scene: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The records of a scene's samples, one after the other."""
    token = scene["first_sample_token"]
    for _ in tables.sample:  # not longer, even if damaged tables lead in a circle
        if token:
            sample = tables.get("sample", token)
            yield sample
            token = sample["next"]


def sensor_poses(tables: NuScenes, token: str, where: str) -> tuple[Pose, Pose, Any]:
    """Sensor to ego, ego to global at the time of this sensor's data, and the camera matrix if it is a camera.

    Raises InputError for what is no pose; `where` begins its place.
    """
    data = tables.get("sample_data", token)
    sensor = tables.get("calibrated_sensor", data["calibrated_sensor_token"])
    ego = tables.get("ego_pose", data["ego_pose_token"])
    return (
        pose_field(sensor["rotation"], sensor["translation"], f"{where}.calibrated_sensor"),
        pose_field(ego["rotation"], ego["translation"], f"{where}.ego_pose"),
        sensor["camera_intrinsic"],
    )
