"""Key frames of nuScenes, put into sequence: order, times relative to the scene, and driving commands."""

from __future__ import annotations

import os.path
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np

from toolkit.data.frames import CameraView, CanReading, Command, Frame, Pose
from toolkit.errors import InputError
from toolkit.text import quoted

COMMAND_STEPS = 6
"""Key frames ahead, half a second each, that decide about the command."""
COMMAND_METRES = 2.0
"""To the side, from where on the drive counts as a turn."""
_EGO_BOX_BOTTOM = np.array([0.0, 0.0, -0.78])
"""In the LiDAR frame: the reference follows the ego as a box of 1.56 m height about the LiDAR, by its bottom."""
_LATEST = 10**17
"""A time in microseconds since 1970, far ahead."""
_SENSOR_FOLDERS = ("samples", "sweeps")


@dataclass(frozen=True, eq=False)
class KeyFrame:
    """What one sample says by itself. `ego2global` is the ego's pose at LiDAR time."""

    token: str
    scene: str
    microseconds: int
    cameras: Mapping[str, CameraView]
    lidar2ego: Pose
    ego2global: Pose
    can: CanReading


def frames_of(key_frames: Sequence[KeyFrame], command: Command | None = None) -> list[Frame]:
    """The frames scene after scene, in the order of time, as the reference runs them.

    They are named by number and sample token. The command follows from where the ego drives, unless one is given for
    all. Raises InputError for names that cannot be part of a file name, times that do not advance, and no frame at all.
    """
    scenes: dict[str, list[KeyFrame]] = defaultdict(list)
    for key_frame in sorted(key_frames, key=lambda key_frame: key_frame.microseconds):
        scenes[key_frame.scene].append(key_frame)
    if not scenes:
        raise InputError("the chosen scenes hold no sample; choose others")
    frames: list[Frame] = []
    for scene, members in scenes.items():
        for i, key_frame in enumerate(members):
            _check(key_frame, members[i - 1] if i else None)
            frames.append(
                Frame(
                    name=f"{len(frames):05d}_{key_frame.token}",
                    scene=scene,
                    timestamp=(key_frame.microseconds - members[0].microseconds) / 1e6,
                    cameras=key_frame.cameras,
                    lidar2ego=key_frame.lidar2ego,
                    ego2global=key_frame.ego2global,
                    command=driving_command(key_frame, members[i + 1 :]) if command is None else command,
                    can=key_frame.can,
                )
            )
    return frames


def _check(key_frame: KeyFrame, before: KeyFrame | None) -> None:
    sample, time = f"sample {quoted(key_frame.token)}", key_frame.microseconds
    if not re.fullmatch(r"\w[\w-]*", key_frame.token) or not key_frame.scene.isprintable():
        raise InputError(f"{sample} of scene {quoted(key_frame.scene)}: names must be letters and digits; repair them")
    if not 0 <= time < _LATEST or (before is not None and time == before.microseconds):
        raise InputError(
            f"{sample}: timestamp {quoted(time)} is no time in µs, or that of another sample; repair the data set"
        )


def driving_command(start: KeyFrame, later: Sequence[KeyFrame]) -> Command:
    """Where the ego is on its last known one of the next `COMMAND_STEPS` key frames, seen from the LiDAR at `start`.

    Right or left of `COMMAND_METRES`, or else straight: also when no later key frame is known.
    """
    if not later:
        return Command.STRAIGHT
    end = later[:COMMAND_STEPS][-1]
    point = _EGO_BOX_BOTTOM
    for pose in (end.lidar2ego, end.ego2global):
        point = pose.rotation @ point + pose.translation
    for pose in (start.ego2global, start.lidar2ego):
        point = pose.rotation.T @ (point - pose.translation)
    if point[0] >= COMMAND_METRES:
        return Command.RIGHT
    return Command.LEFT if point[0] <= -COMMAND_METRES else Command.STRAIGHT


def image_path(recorded: str, dataroot: Path | None) -> Path:
    """Where an image lies whose path was recorded on another machine: below `dataroot`, or just there without one.

    A machine with Windows records backslashes, or both kinds of separators. Raises InputError for a path that cannot
    be shown in a message.
    """
    if not recorded.isprintable():
        raise InputError(f"the recorded image path {quoted(recorded)} is damaged; create the file again")
    parts = PureWindowsPath(recorded).parts
    inside = [i for i, part in enumerate(parts) if part in _SENSOR_FOLDERS]
    return Path(recorded) if dataroot is None or not inside else dataroot.joinpath(*parts[inside[-1] :])


def require_images(frames: Sequence[Frame], remedy: str) -> None:
    """Raise InputError if images are missing, saying which is the first and how many there are."""
    images = [view.image for frame in frames for view in frame.cameras.values() if isinstance(view.image, Path)]
    missing = [image for image in images if not os.path.isfile(image)]
    if missing:
        raise InputError(f"{len(missing)} of {len(images)} images are missing, first {missing[0]}; {remedy}")
