"""The thirteen tables of the nuScenes schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from toolkit.synthetic.schema.recording import Capture, Observation, Recording
from toolkit.synthetic.schema.records import Row, pose_fields, rounded, token
from toolkit.synthetic.sensors.lidar import LIDAR_CHANNEL
from toolkit.synthetic.sensors.rig import CAMERAS, LIDAR
from toolkit.synthetic.traffic.actors import Actor
from toolkit.synthetic.versions import LOCATIONS

Tables = dict[str, list[Row]]

TABLE_NAMES = ("category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor", "ego_pose", "log",
               "scene", "sample", "sample_data", "sample_annotation", "map")  # fmt: skip
_CATEGORIES = (
    "human.pedestrian.adult", "human.pedestrian.child", "human.pedestrian.wheelchair", "human.pedestrian.stroller",
    "human.pedestrian.personal_mobility", "human.pedestrian.police_officer", "human.pedestrian.construction_worker",
    "animal", "vehicle.car", "vehicle.motorcycle", "vehicle.bicycle", "vehicle.bus.bendy", "vehicle.bus.rigid",
    "vehicle.truck", "vehicle.construction", "vehicle.emergency.ambulance", "vehicle.emergency.police",
    "vehicle.trailer", "movable_object.barrier", "movable_object.trafficcone", "movable_object.pushable_pullable",
    "movable_object.debris", "static_object.bicycle_rack",
)  # fmt: skip
_ATTRIBUTES = (
    "vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider", "cycle.without_rider",
    "pedestrian.sitting_lying_down", "pedestrian.standing", "pedestrian.moving",
)  # fmt: skip
_VISIBILITIES = ((0, 40), (40, 60), (60, 80), (80, 100))
"""Percent of an object that can be seen in the six pictures; tokens are 1 to 4."""


def build_tables(seed: int, recordings: Sequence[Recording], *, annotated: bool = True) -> Tables:
    """All tables. Without `annotated` there are no annotations and instances, as in nuScenes' test set."""
    tables: Tables = {name: [] for name in TABLE_NAMES}
    tables["category"] = [{"token": token("category", name), "name": name, "description": ""} for name in _CATEGORIES]
    tables["attribute"] = [{"token": token("attribute", name), "name": name, "description": ""} for name in _ATTRIBUTES]
    tables["visibility"] = [
        {"token": str(i), "level": f"v{low}-{high}", "description": f"{low} to {high} % of the object are visible"}
        for i, (low, high) in enumerate(_VISIBILITIES, 1)
    ]
    tables["sensor"] = [
        {"token": token("sensor", channel), "channel": channel, "modality": modality}
        for channel, modality in (*((c.channel, "camera") for c in CAMERAS), (LIDAR_CHANNEL, "lidar"))
    ]
    for recording in recordings:
        for name, rows in _SceneRows(seed, recording).tables(annotated).items():
            tables[name] += rows
    tables["map"] = [
        {
            "token": token("map", location.name), "category": "semantic_prior",
            "filename": f"maps/{location.picture}.png",
            "log_tokens": [token(seed, "log", r.name) for r in recordings if r.location == location.name],
        }
        for location in LOCATIONS
    ]  # fmt: skip
    return tables


class _SceneRows:
    """The rows of one scene."""

    def __init__(self, seed: int, recording: Recording) -> None:
        self._seed = seed
        self._recording = recording
        self._samples = [self._token("sample", i) for i in range(len(recording.key_frames))]

    def tables(self, annotated: bool) -> Tables:
        recording = self._recording
        tables: Tables = {
            "log": [{
                "token": self._token("log"), "logfile": recording.log, "vehicle": "synthetic",
                "date_captured": recording.date, "location": recording.location,
            }],
            "scene": [{
                "token": self._token("scene"), "log_token": self._token("log"), "nbr_samples": len(self._samples),
                "first_sample_token": self._samples[0], "last_sample_token": self._samples[-1],
                "name": recording.name, "description": recording.description,
            }],
            "calibrated_sensor": list(self._calibrations()),
            "sample": [
                {"token": self._samples[i], "timestamp": frame.timestamp, "scene_token": self._token("scene"),
                 **_neighbours(self._samples, i)}
                for i, frame in enumerate(recording.key_frames)
            ],
            "ego_pose": [], "sample_data": [], "instance": [], "sample_annotation": [],
        }  # fmt: skip
        for i, frame in enumerate(recording.key_frames):
            for capture in frame.captures:
                tables["ego_pose"].append({
                    "token": self._token("pose", capture.channel, i), "timestamp": capture.timestamp,
                    **pose_fields(capture.ego_pose),
                })  # fmt: skip
                tables["sample_data"].append(self._sample_data(i, capture))
        if annotated:
            for actor in recording.actors:
                self._annotate(actor, tables)
        return tables

    def _calibrations(self) -> Iterator[Row]:
        for camera in self._recording.cameras:
            yield {
                "token": self._token("calibration", camera.channel), "sensor_token": token("sensor", camera.channel),
                **pose_fields(camera.pose), "camera_intrinsic": camera.intrinsics.tolist(),
            }  # fmt: skip
        yield {
            "token": self._token("calibration", LIDAR_CHANNEL), "sensor_token": token("sensor", LIDAR_CHANNEL),
            **pose_fields(LIDAR), "camera_intrinsic": [],
        }  # fmt: skip

    def _sample_data(self, index: int, capture: Capture) -> Row:
        width, height = capture.size
        tokens = [self._token("data", capture.channel, i) for i in range(len(self._samples))]
        return {
            "token": tokens[index], "sample_token": self._samples[index],
            "ego_pose_token": self._token("pose", capture.channel, index),
            "calibrated_sensor_token": self._token("calibration", capture.channel),
            "timestamp": capture.timestamp, "fileformat": "jpg" if width else "pcd", "is_key_frame": True,
            "height": height, "width": width, "filename": capture.filename, **_neighbours(tokens, index),
        }  # fmt: skip

    def _annotate(self, actor: Actor, tables: Tables) -> None:
        """An actor is annotated from the first key frame in which a sensor sees it to the last, without gaps."""
        name, frames = actor.name, self._recording.key_frames
        seen = [i for i, frame in enumerate(frames) if name in frame.observations and frame.observations[name].is_seen]
        if not seen:
            return
        span = range(seen[0], seen[-1] + 1)
        tokens = [self._token("annotation", name, i) for i in span]
        for k, i in enumerate(span):
            observation = frames[i].observations[name]
            tables["sample_annotation"].append({
                "token": tokens[k], "sample_token": self._samples[i], "instance_token": self._token("instance", name),
                "visibility_token": _visibility_token(observation),
                "attribute_tokens": [token("attribute", observation.attribute)] if observation.attribute else [],
                "size": rounded(actor.size), **pose_fields(observation.pose), **_neighbours(tokens, k),
                "num_lidar_pts": observation.lidar_points, "num_radar_pts": 0,
            })  # fmt: skip
        tables["instance"].append({
            "token": self._token("instance", name), "category_token": token("category", actor.kind.category),
            "nbr_annotations": len(tokens), "first_annotation_token": tokens[0], "last_annotation_token": tokens[-1],
        })  # fmt: skip

    def _token(self, *parts: object) -> str:
        return token(self._seed, parts[0], self._recording.name, *parts[1:])


def _neighbours(tokens: Sequence[str], index: int) -> Row:
    """The `prev` and `next` fields, empty at the ends."""
    return {
        "prev": tokens[index - 1] if index > 0 else "",
        "next": tokens[index + 1] if index < len(tokens) - 1 else "",
    }


def _visibility_token(observation: Observation) -> str:
    percent = observation.visibility * 100
    return str(next((i for i, (_, high) in enumerate(_VISIBILITIES, 1) if percent <= high), len(_VISIBILITIES)))
