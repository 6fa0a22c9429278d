"""A nuScenes of two scenes with four key frames each and pictures of 64x36 pixels: enough for the devkit to load.

scene-0103 stands first in the tables but is the later one; it turns right, has a CAN bus and is in the split mini_val.
scene-0061 turns left, its heading passes 360 degrees, it has no CAN bus and is in mini_train. Cameras expose while the
ego drives and rocks a little.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pyquaternion import Quaternion

from toolkit.config.model import CAMERAS, ImageConfig, ModelConfig
from toolkit.data.plugin import uniad_frame_sources

IMAGE = ImageConfig(source_width=64, source_height=36)
CONFIG = ModelConfig(image=IMAGE)
SOURCES = uniad_frame_sources()
VERSION = "v1.0-mini"
KEY_FRAMES = 4
SENSORS = ("LIDAR_TOP", *CAMERAS)
TABLES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample", "sample_annotation",
    "sample_data", "scene", "sensor", "visibility",
)  # fmt: skip
Record = dict[str, Any]


@dataclass(frozen=True)
class Drive:
    """A scene: an arc from `position` (m) and `heading` (degrees) with constant speed and turn rate (m/s, rad/s)."""

    name: str
    start: int
    position: tuple[float, float]
    heading: float
    speed: float
    turn_rate: float

    def pose(self, microseconds: int) -> tuple[Quaternion, list[float]]:
        """Ego to global."""
        seconds = (microseconds - self.start) / 1e6
        heading, turned = math.radians(self.heading), self.turn_rate * seconds
        radius = self.speed / self.turn_rate
        x = radius * (math.sin(heading + turned) - math.sin(heading))
        y = radius * (math.cos(heading) - math.cos(heading + turned))
        rock = Quaternion(axis=[1, 0, 0], radians=0.02 * math.sin(3 * seconds + self.start))
        rotation = Quaternion(axis=[0, 0, 1], radians=heading + turned) * rock
        return rotation, [self.position[0] + x, self.position[1] + y, 0.1 * math.sin(seconds)]


DRIVES = (
    Drive("scene-0103", 1_535_657_108_000_123, (600.5, 1640.25), 48.0, 10.0, -0.25),
    Drive("scene-0061", 1_532_402_927_600_007, (411.25, 1180.75), 340.0, 8.0, 0.9),
)


def write_dataroot(dataroot: Path) -> Path:
    """Write tables, pictures, a map and the CAN bus."""
    tables: dict[str, list[Record]] = {name: [] for name in TABLES}
    tables["category"] = [{"token": token("car"), "name": "vehicle.car", "description": ""}]
    tables["visibility"] = [{"token": "4", "level": "v80-100", "description": ""}]
    tables["log"] = [{"token": token("log"), "logfile": "", "vehicle": "", "date_captured": "", "location": ""}]
    tables["map"] = [{"token": token("map"), "log_tokens": [token("log")], "category": "", "filename": "maps/map.png"}]
    tables["sensor"] = [
        {"token": token(name), "channel": name, "modality": "lidar" if name == "LIDAR_TOP" else "camera"}
        for name in SENSORS
    ]
    for drive in DRIVES:
        write_scene(dataroot, drive, tables)
    (dataroot / VERSION).mkdir(parents=True)
    for name, records in tables.items():
        (dataroot / VERSION / f"{name}.json").write_text(json.dumps(records))
    (dataroot / "maps").mkdir()
    cv2.imwrite(str(dataroot / "maps/map.png"), np.zeros((4, 4), np.uint8))
    write_can_bus(dataroot / "can_bus", DRIVES[0])
    return dataroot


def write_scene(dataroot: Path, drive: Drive, tables: dict[str, list[Record]]) -> None:
    random = np.random.default_rng(drive.start)
    for sensor in SENSORS:
        ahead = Quaternion(axis=[0, 0, 1], radians=-math.pi / 2) * Quaternion(axis=[1, 0, 0], radians=0.01)
        rotation = ahead if sensor == "LIDAR_TOP" else Quaternion(random.normal(size=4)).normalised
        intrinsics = [[50 + random.random(), 0.0, 32.1], [0.0, 50 + random.random(), 18.3], [0.0, 0.0, 1.0]]
        tables["calibrated_sensor"].append({
            "token": token(drive.name, sensor),
            "sensor_token": token(sensor),
            "translation": random.normal(size=3).tolist(),
            "rotation": rotation.elements.tolist(),
            "camera_intrinsic": [] if sensor == "LIDAR_TOP" else intrinsics,
        })  # fmt: skip
    tokens = ["", *(token(drive.name, "sample", i) for i in range(KEY_FRAMES)), ""]
    objects = ["", *(token(drive.name, "annotation", i) for i in range(KEY_FRAMES)), ""]
    for i in range(KEY_FRAMES):
        time = drive.start + 500_000 * i + int(random.integers(20_000))
        links = {"prev": tokens[i], "next": tokens[i + 2]}
        tables["sample"].append({"token": tokens[i + 1], "timestamp": time, "scene_token": token(drive.name)} | links)
        tables["sample_annotation"].append({
            "token": objects[i + 1], "sample_token": tokens[i + 1], "instance_token": token(drive.name, "object"),
            "visibility_token": "4", "attribute_tokens": [], "translation": [*drive.position, 1.0],
            "size": [1.9, 4.6, 1.7], "rotation": [1.0, 0.0, 0.0, 0.0], "num_lidar_pts": 9, "num_radar_pts": 1,
            "prev": objects[i], "next": objects[i + 2],
        })  # fmt: skip
        for sensor in SENSORS:
            exposure = time if sensor == "LIDAR_TOP" else time + int(random.integers(-40_000, 40_000))
            write_sensor_data(dataroot, drive, sensor, exposure, tokens[i + 1], tables, random)
    tables["instance"].append({
        "token": token(drive.name, "object"), "category_token": token("car"), "nbr_annotations": KEY_FRAMES,
        "first_annotation_token": objects[1], "last_annotation_token": objects[-2],
    })  # fmt: skip
    tables["scene"].append({
        "token": token(drive.name), "log_token": token("log"), "nbr_samples": KEY_FRAMES, "name": drive.name,
        "first_sample_token": tokens[1], "last_sample_token": tokens[-2], "description": "",
    })  # fmt: skip


def write_sensor_data(
    dataroot: Path,
    drive: Drive,
    sensor: str,
    exposure: int,
    sample: str,
    tables: dict[str, list[Record]],
    random: np.random.Generator,
) -> None:
    suffix = "pcd.bin" if sensor == "LIDAR_TOP" else "jpg"
    file = dataroot / "samples" / sensor / f"{drive.name}+0800__{sensor}__{exposure}.{suffix}"
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = cv2.imencode(".jpg", random.integers(0, 255, (36, 64, 3), np.uint8))[1].tobytes()
    file.write_bytes(bytes(20) if sensor == "LIDAR_TOP" else picture)
    rotation, translation = drive.pose(exposure)
    name = token(sample, sensor)
    tables["ego_pose"].append(
        {"token": name, "timestamp": exposure, "rotation": rotation.elements.tolist(), "translation": translation}
    )
    tables["sample_data"].append({
        "token": name, "sample_token": sample, "ego_pose_token": name, "prev": "", "next": "",
        "calibrated_sensor_token": token(drive.name, sensor), "timestamp": exposure, "fileformat": suffix,
        "is_key_frame": True, "height": 36, "width": 64, "filename": file.relative_to(dataroot).as_posix(),
    })  # fmt: skip


def write_can_bus(folder: Path, drive: Drive) -> None:
    """Messages every 20 ms from 0.1 s after the scene's start, as nuScenes orders their fields."""
    random = np.random.default_rng(0)
    messages = []
    for time in range(drive.start + 100_000, drive.start + 1_400_000, 20_000):
        rotation, position = drive.pose(time)
        accel, rates, vel = (random.normal(size=3).tolist() for _ in range(3))
        messages.append({
            "accel": accel, "orientation": rotation.elements.tolist(), "pos": position, "rotation_rate": rates,
            "utime": time, "vel": vel,
        })  # fmt: skip
    folder.mkdir()
    (folder / f"{drive.name}_pose.json").write_text(json.dumps(messages))


def token(*names: object) -> str:
    return hashlib.md5("/".join(map(str, names)).encode()).hexdigest()


def edit_table(dataroot: Path, table: str, change: Callable[[list[Record]], object]) -> None:
    """Change the records of a table in place."""
    path = dataroot / VERSION / f"{table}.json"
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))
