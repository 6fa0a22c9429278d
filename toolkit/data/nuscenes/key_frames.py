"""Key frames of nuScenes, put into sequence: order, times relative to the scene, and driving commands."""

from __future__ import annotations

import os.path
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from toolkit.data.frames import CameraView, CanReading, Command, Frame, Pose
from toolkit.data.ground_truth import AnnotatedFrame, AnnotatedScene
from toolkit.data.standpoint import driving_command
from toolkit.errors import InputError
from toolkit.text import quoted

_LATEST = 10**17
"""A time in microseconds since 1970, far ahead."""
_NO_SAMPLE = "the chosen scenes hold no sample; choose others"
_LONGEST_TOKEN = 200
"""In bytes: it becomes part of the names of files."""
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
        raise InputError(_NO_SAMPLE)
    frames: list[Frame] = []
    for scene, members in scenes.items():
        for i, key_frame in enumerate(members):
            before = members[i - 1].microseconds if i else None
            _check(key_frame.token, scene, key_frame.microseconds, before)
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


def scenes_of(
    members: Mapping[str, Sequence[AnnotatedFrame]], places: Mapping[str, str | None]
) -> list[AnnotatedScene]:
    """Scenes and their frames by name, in the order of time; `places` are their maps' names.

    Raises InputError as `frames_of` does.
    """
    scenes = []
    for name, frames in members.items():
        ordered = sorted(frames, key=lambda frame: frame.microseconds)
        for i, frame in enumerate(ordered):
            _check(frame.token, name, frame.microseconds, ordered[i - 1].microseconds if i else None)
        scenes.append(AnnotatedScene(name, places.get(name), tuple(ordered)))
    if not any(scene.frames for scene in scenes):
        raise InputError(_NO_SAMPLE)
    return sorted((scene for scene in scenes if scene.frames), key=lambda scene: scene.frames[0].microseconds)


def _check(token: str, scene: str, microseconds: int, before: int | None) -> None:
    """Raise InputError for names that cannot be part of a file name, or a time that does not follow that `before`."""
    sample = f"sample {quoted(token)}"
    fits = re.fullmatch(r"\w[\w-]*", token) and len(token.encode()) <= _LONGEST_TOKEN
    if not fits or not scene.isprintable():
        raise InputError(f"{sample} of scene {quoted(scene)}: names must be letters and digits; repair them")
    if not 0 <= microseconds < _LATEST or microseconds == before:
        time = quoted(microseconds)
        raise InputError(f"{sample}: timestamp {time} is no time in µs, or that of another sample; repair the data set")


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
