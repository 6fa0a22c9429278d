"""One scene from the first key frame to the last: what the sensors and the vehicle bus record, written to files."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.data.frames import Pose
from toolkit.synthetic.rendering.painter import Painter
from toolkit.synthetic.schema.can_bus import can_bus
from toolkit.synthetic.schema.recording import Capture, KeyFrame, Observation, Recording
from toolkit.synthetic.sensors.lidar import LIDAR_CHANNEL, scan
from toolkit.synthetic.sensors.rig import Camera, ego_pose, scaled_cameras
from toolkit.synthetic.traffic.actors import Actor
from toolkit.synthetic.traffic.population import REAR_AXLE, Traffic, populate
from toolkit.synthetic.versions import scene_name
from toolkit.synthetic.world.geometry import Array
from toolkit.synthetic.world.town import Town

FRAME_SECONDS = 0.5
_FIRST_TIME = 1_600_000_000
"""Seconds since 1970 of the first scene's first key frame; every scene starts an hour after the one before."""
_JPEG_QUALITY = 90


@dataclass(frozen=True)
class ScenePlan:
    """The official scene `number`, as the `index`-th scene of a dataset."""

    number: int
    index: int
    seed: int
    keyframes: int
    image_scale: float

    @property
    def name(self) -> str:
        return scene_name(self.number)

    @property
    def start(self) -> int:
        """Time of the first key frame, µs since 1970."""
        return (_FIRST_TIME + 3600 * self.index) * 1_000_000

    @property
    def date(self) -> datetime:
        return datetime.fromtimestamp(self.start / 1e6, UTC)

    @property
    def log(self) -> str:
        return f"synthetic-{self.date:%Y-%m-%d-%H-%M-%S}+0000"

    @property
    def first_turn(self) -> int:
        """1 left, -1 right: the scenes take turns."""
        return 1 if self.index % 2 == 0 else -1


def record_scene(folder: Path, town: Town, plan: ScenePlan) -> Generator[str, None, Recording]:
    """Write a scene's files below the dataroot `folder`; yields a line when a key frame is done."""
    rng = np.random.Generator(np.random.PCG64([plan.seed, plan.number]))
    traffic = populate(town.roads, rng, plan.keyframes * FRAME_SECONDS, plan.first_turn)
    camera_man = _Recorder(folder, town, plan, traffic, rng)
    frames = []
    for index in range(plan.keyframes):
        frames.append(camera_man.key_frame(index * FRAME_SECONDS))
        yield f"{plan.name}, key frame {index + 1} of {plan.keyframes}"
    messages = can_bus(town, traffic.ego, plan.start, (plan.keyframes - 1) * FRAME_SECONDS)
    for name, content in messages.items():
        write_json(folder / "can_bus" / f"{plan.name}_{name}.json", content)
    turn = "left" if plan.first_turn == 1 else "right"
    return Recording(
        name=plan.name,
        location=town.location.name,
        log=plan.log,
        date=f"{plan.date:%Y-%m-%d}",
        description=f"Made-up town, stop, turn {turn}, parked cars, peds, construction site",
        cameras=camera_man.cameras,
        actors=traffic.actors,
        key_frames=tuple(frames),
    )


class _Recorder:
    """Takes the pictures and scans of one scene."""

    def __init__(self, folder: Path, town: Town, plan: ScenePlan, traffic: Traffic, rng: np.random.Generator) -> None:
        self.cameras = scaled_cameras(plan.image_scale)
        self._folder = folder
        self._town = town
        self._plan = plan
        self._traffic = traffic
        self._rng = rng
        self._painter = Painter(town, traffic.actors)

    def key_frame(self, time: float) -> KeyFrame:
        """What the sensors see around `time`, in seconds since the first key frame."""
        captures, areas = [], np.zeros((len(self._traffic.actors), 2))
        for camera in self.cameras:
            capture, seen = self._take_picture(camera, time)
            captures.append(capture)
            areas += seen
        capture, hits = self._scan(time)
        captures.append(capture)
        observations = {
            actor.name: self._observe(actor, time, int(hits[i]), areas[i])
            for i, actor in enumerate(self._traffic.actors)
        }
        return KeyFrame(self._timestamp(time), tuple(captures), observations)

    def _take_picture(self, camera: Camera, time: float) -> tuple[Capture, Array]:
        """The picture's record, and the areas [actors, 2] of `PaintedPicture`."""
        exposed = time + camera.delay / 1e6
        ego = self._traffic.ego.at(exposed, -REAR_AXLE).pose
        picture = self._painter.picture(camera, ego, exposed)
        jpeg = cv2.imencode(".jpg", picture.image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
        return self._write(camera.channel, exposed, ego, jpeg.tobytes(), camera.size), picture.areas

    def _scan(self, time: float) -> tuple[Capture, NDArray[np.int64]]:
        """The point cloud's record, and the number of points on every actor (and then on every building)."""
        ego = self._traffic.ego.at(time, -REAR_AXLE).pose
        poses = np.concatenate([[actor.motion.at(time).pose for actor in self._traffic.actors], self._houses[0]])
        sizes = np.concatenate([[actor.size for actor in self._traffic.actors], self._houses[1]])
        result = scan(ego, poses, sizes, self._rng)
        capture = self._write(LIDAR_CHANNEL, time, ego, result.points.astype("<f4").tobytes(), (0, 0))
        return capture, np.bincount(result.owner[result.owner >= 0], minlength=len(sizes))

    def _observe(self, actor: Actor, time: float, lidar_points: int, areas: Array) -> Observation:
        state = actor.motion.at(time)
        pose = self._global(state.pose)
        center = Pose(pose.quaternion, pose.translation + np.array([0.0, 0.0, actor.size[2] / 2]))
        outline, visible = areas.tolist()
        share = visible / outline if outline else 0.0
        distance = float(np.hypot(*(state.pose - self._traffic.ego.at(time).pose)[:2]))
        return Observation(center, distance, lidar_points, share, actor.attribute(state.speed))

    def _write(self, channel: str, time: float, ego: Array, content: bytes, size: tuple[int, int]) -> Capture:
        timestamp = self._timestamp(time)
        suffix = "jpg" if size[0] else "pcd.bin"
        filename = f"samples/{channel}/{self._plan.log}__{channel}__{timestamp}.{suffix}"
        path = self._folder / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return Capture(channel, timestamp, filename, self._global(ego), size)

    def _timestamp(self, time: float) -> int:
        return self._plan.start + round(time * 1e6)

    def _global(self, pose: Array) -> Pose:
        return ego_pose(*self._town.pose_to_global(pose))

    @cached_property
    def _houses(self) -> tuple[Array, Array]:
        buildings = self._town.scenery.buildings
        return np.array([b.pose for b in buildings]), np.array([b.size for b in buildings])


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
