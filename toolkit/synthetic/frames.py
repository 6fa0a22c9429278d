"""The frames of a synthetic drive without nuScenes' devkit: the same that reading the dataset through it gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from toolkit.data.fields import pose_field
from toolkit.data.frame_folder import write_frame
from toolkit.data.frames import CameraView, Frame, Pose
from toolkit.data.ground_truth import GroundTruth
from toolkit.data.nuscenes.annotations import read_ground_truth
from toolkit.data.nuscenes.can_bus import can_reading
from toolkit.data.nuscenes.dataroot import sensor_to_lidar
from toolkit.data.nuscenes.key_frames import KeyFrame, frames_of
from toolkit.storage.json_file import read_json
from toolkit.synthetic.dataset import DriveSettings, synthesize
from toolkit.synthetic.schema.recording import Recording
from toolkit.synthetic.schema.records import pose_fields
from toolkit.synthetic.sensors.lidar import LIDAR_CHANNEL
from toolkit.synthetic.sensors.rig import LIDAR


def write_drive(dataroot: Path, folder: Path, settings: DriveSettings, workers: int = 1) -> int:
    """Synthesize a dataset as the new folder `dataroot`, and its frames as the frame folder `folder`: their number.

    `workers` are processes that record a scene each.
    """
    drive = synthesize(dataroot, settings, workers=workers)
    try:
        while True:
            next(drive)
    except StopIteration as end:
        frames = drive_frames(dataroot, end.value)
    for frame in frames:
        write_frame(frame, folder)
    return len(frames)


def drive_frames(dataroot: Path, recordings: Sequence[Recording]) -> list[Frame]:
    """The frames of a dataset that was just synthesized at `dataroot`; their names tell scene and number."""
    return frames_of([key_frame for recording in recordings for key_frame in _key_frames(dataroot, recording)])


def drive_truth(dataroot: Path) -> GroundTruth:
    """What a dataset that `write_drive` wrote knows about its frames, by the names that these have.

    Raises InputError without nuScenes' devkit.
    """
    truth = read_ground_truth(dataroot)
    scenes = (
        replace(
            scene,
            frames=tuple(replace(frame, token=_name(scene.name, i)) for i, frame in enumerate(scene.frames)),
        )
        for scene in truth.scenes
    )
    return replace(truth, scenes=tuple(scenes))


def _key_frames(dataroot: Path, recording: Recording) -> Iterator[KeyFrame]:
    bus = dataroot / "can_bus" / f"{recording.name}_pose.json"
    messages, lidar2ego = read_json(bus), _as_written(LIDAR)
    for i, recorded in enumerate(recording.key_frames):
        captures = {capture.channel: capture for capture in recorded.captures}
        ego2global = _as_written(captures[LIDAR_CHANNEL].ego_pose)
        views = {}
        for camera in recording.cameras:
            capture = captures[camera.channel]
            exposed = _as_written(capture.ego_pose)
            sensor2lidar = sensor_to_lidar(_as_written(camera.pose), exposed, lidar2ego, ego2global)
            views[camera.channel] = CameraView(dataroot / capture.filename, camera.intrinsics, sensor2lidar)
        yield KeyFrame(
            token=_name(recording.name, i),
            scene=recording.name,
            microseconds=recorded.timestamp,
            cameras=views,
            lidar2ego=lidar2ego,
            ego2global=ego2global,
            can=can_reading(messages, recorded.timestamp, str(bus)),
        )


def _name(scene: str, number: int) -> str:
    return f"{scene}_{number:03d}"


def _as_written(pose: Pose) -> Pose:
    """With the digits that the dataset's tables have."""
    fields = pose_fields(pose)
    return pose_field(fields["rotation"], fields["translation"], "pose")
