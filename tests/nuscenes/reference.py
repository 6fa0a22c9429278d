"""What the reference makes of a dataroot, written down a second time, straight from the devkit: its info file, and the
tensors of its evaluation. Nothing here uses the code under test.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nuscenes.can_bus.can_bus_api import NuScenesCanBus
from nuscenes.eval.common.utils import quaternion_yaw
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.geometry_utils import transform_matrix
from pyquaternion import Quaternion

from toolkit.config.model import CAMERAS

Record = dict[str, Any]


def write_infos(dataroot: Path, version: str, path: Path) -> Path:
    """A file like nuscenes_infos_temporal_val.pkl, with all samples in the order of the table."""
    tables = NuScenes(version, str(dataroot), verbose=False)
    infos = [make_info(tables, sample) for sample in tables.sample]
    path.write_bytes(pickle.dumps({"infos": infos, "metadata": {"version": version}}, protocol=2))
    return path


def make_info(tables: NuScenes, sample: Record) -> Record:
    lidar, scan = sensor_records(tables, sample["data"]["LIDAR_TOP"])
    annotations = [tables.get("sample_annotation", one) for one in sample["anns"]]
    cameras = {}
    for name in CAMERAS:
        sensor, ego = sensor_records(tables, sample["data"][name])
        rotation, translation = sensor_to_lidar(sensor, ego, lidar, scan)
        path, _, intrinsics = tables.get_sample_data(sample["data"][name])
        cameras[name] = {
            "data_path": f"./data/nuscenes/{Path(path).relative_to(tables.dataroot)}",
            "type": name,
            "sample_data_token": sample["data"][name],
            "sensor2ego_translation": sensor["translation"],
            "sensor2ego_rotation": sensor["rotation"],
            "ego2global_translation": ego["translation"],
            "ego2global_rotation": ego["rotation"],
            "timestamp": ego["timestamp"],
            "sensor2lidar_rotation": rotation,
            "sensor2lidar_translation": translation,
            "cam_intrinsic": intrinsics,
        }
    return {
        "lidar_path": tables.get_sample_data_path(sample["data"]["LIDAR_TOP"]),
        "token": sample["token"],
        "prev": sample["prev"],
        "next": sample["next"],
        "can_bus": can_bus(tables, sample),
        "frame_idx": 0,
        "sweeps": [],
        "cams": cameras,
        "scene_token": sample["scene_token"],
        "lidar2ego_translation": lidar["translation"],
        "lidar2ego_rotation": lidar["rotation"],
        "ego2global_translation": scan["translation"],
        "ego2global_rotation": scan["rotation"],
        "timestamp": sample["timestamp"],
        "gt_boxes": np.zeros((len(annotations), 7)),
        "gt_names": np.array(["car" for _ in annotations]),
        "gt_velocity": np.zeros((len(annotations), 2)),
        "num_lidar_pts": np.array([one["num_lidar_pts"] for one in annotations]),
        "valid_flag": np.array([one["num_lidar_pts"] > 0 for one in annotations], dtype=bool),
        "gt_inds": np.arange(len(annotations)),
        "gt_ins_tokens": np.array([one["instance_token"] for one in annotations]),
        "visibility_tokens": np.array([int(one["visibility_token"]) for one in annotations]),
    }


def sensor_records(tables: NuScenes, token: str) -> tuple[Record, Record]:
    """The calibrated sensor and the ego pose of sensor data."""
    data = tables.get("sample_data", token)
    sensor = tables.get("calibrated_sensor", data["calibrated_sensor_token"])
    return sensor, tables.get("ego_pose", data["ego_pose_token"])


def sensor_to_lidar(sensor: Record, ego: Record, lidar: Record, scan: Record) -> tuple[NDArray[Any], NDArray[Any]]:
    """For row vectors, as the reference chains them."""
    mounted, exposed = (Quaternion(one["rotation"]).rotation_matrix for one in (sensor, ego))
    lidar_mounted, scanned = (Quaternion(one["rotation"]).rotation_matrix for one in (lidar, scan))
    back = np.linalg.inv(scanned).T @ np.linalg.inv(lidar_mounted).T
    rotation = (mounted.T @ exposed.T) @ back
    translation = (sensor["translation"] @ exposed.T + ego["translation"]) @ back
    translation -= scan["translation"] @ back + lidar["translation"] @ np.linalg.inv(lidar_mounted).T
    return rotation.T, translation


def can_bus(tables: NuScenes, sample: Record) -> NDArray[np.float64]:
    """Position, orientation, then the readings; its readings come from the message at which its search ends."""
    scene = tables.get("scene", sample["scene_token"])["name"]
    try:
        messages = NuScenesCanBus(dataroot=tables.dataroot).get_messages(scene, "pose")
    except Exception:
        return np.zeros(18)
    last = messages[0]
    for message in messages:
        if message["utime"] > sample["timestamp"]:
            break
        last = message
    readings = message["accel"] + message["rotation_rate"] + message["vel"]
    return np.array(last["pos"] + last["orientation"] + readings + [0.0, 0.0])


def evaluation_inputs(tables: NuScenes, rotation: str) -> list[Record]:
    """The tensors of all samples in the order of time, with the names of the toolkit, without images; float64.

    By homogeneous matrices and column vectors, where the toolkit uses quaternions and row vectors.
    """
    inputs = []
    previous: tuple[NDArray[np.float64], float] = np.zeros(3), 0.0
    samples = sorted(tables.sample, key=lambda sample: sample["timestamp"])
    for sample in samples:
        lidar, scan = sensor_records(tables, sample["data"]["LIDAR_TOP"])
        lidar_to_global = matrix(scan) @ matrix(lidar)
        projections = []
        for name in CAMERAS:
            sensor, ego = sensor_records(tables, sample["data"][name])
            camera = np.eye(4)
            camera[:3, :3] = sensor["camera_intrinsic"]
            lidar_to_camera = np.linalg.inv(matrix(ego) @ matrix(sensor)) @ lidar_to_global
            projections.append(np.diag([0.25, 0.25, 1, 1]) @ camera @ lidar_to_camera)
        start = tables.get("sample", tables.get("scene", sample["scene_token"])["first_sample_token"])
        degrees = np.degrees(quaternion_yaw(Quaternion(scan["rotation"]))) % 360
        position = np.array(scan["translation"])
        motion = can_bus(tables, sample)
        motion[:3] = position - previous[0]
        motion[3:7] = scan["rotation"][0] if rotation == "scalar" else scan["rotation"]
        motion[16:] = np.radians(degrees), degrees - previous[1]
        previous = position, degrees
        inputs.append({
            "lidar2img": np.stack(projections),
            "can_bus": motion,
            "timestamp": np.array([(sample["timestamp"] - start["timestamp"]) / 1e6]),
            "l2g_rotation": lidar_to_global[:3, :3].T,
            "l2g_translation": lidar_to_global[:3, 3],
            "command": np.array([command(tables, sample)]),
            "use_previous": np.array([sample["token"] != start["token"]]),
        })  # fmt: skip
    return inputs


def command(tables: NuScenes, sample: Record) -> int:
    """0 right, 1 left, 2 straight."""
    scan = lidar_matrix(tables, sample)
    last = sample
    for _ in range(6):
        last = tables.get("sample", last["next"]) if last["next"] else last
    if last is sample:
        return 2
    x = (np.linalg.inv(scan) @ lidar_matrix(tables, last) @ [0, 0, -0.78, 1])[0]
    return 0 if x >= 2 else 1 if x <= -2 else 2


def lidar_matrix(tables: NuScenes, sample: Record) -> NDArray[np.float64]:
    lidar, scan = sensor_records(tables, sample["data"]["LIDAR_TOP"])
    return matrix(scan) @ matrix(lidar)


def matrix(record: Record) -> NDArray[np.float64]:
    return np.asarray(transform_matrix(record["translation"], Quaternion(record["rotation"])))
