"""Readings of the vehicle bus, from nuScenes' CAN bus expansion."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.data.fields import array_field, object_field
from toolkit.data.frames import CanReading
from toolkit.errors import InputError
from toolkit.text import one_line

_READINGS = ("accel", "rotation_rate", "vel")
Message = dict[str, Any]


def can_bus_folder(dataroot: Path) -> Path:
    """Where the CAN bus expansion lies: in the dataroot, or beside it, as BEVFormer's and VAD's users unpack it."""
    inside, beside = dataroot / "can_bus", Path(os.path.abspath(dataroot)).parent / "can_bus"
    return beside if beside.is_dir() and not inside.is_dir() else inside


def is_unpacked(folder: Path) -> bool:
    """Whether the folder holds the messages of any scene."""
    return any(folder.glob("*_pose.json"))


def pose_messages(folder: Path, scene: str) -> list[Message]:
    """The scene's pose messages, about 50 a second; none if nuScenes has none for it, or they are not in `folder`.

    Raises InputError for a damaged file.
    """
    from nuscenes.can_bus.can_bus_api import NuScenesCanBus

    path = folder / f"{scene}_pose.json"
    try:
        messages = NuScenesCanBus(dataroot=str(folder.parent)).get_messages(scene, "pose", print_warnings=False)
    except ValueError as error:
        raise InputError(f"{path}: is damaged: {one_line(error)}; unpack the CAN bus expansion again") from error
    except Exception:  # that is what the devkit raises for scenes it knows to have none
        return []
    return [
        object_field(message, f"{path}: message {i}", ("utime", *_READINGS), optional=None)
        for i, message in enumerate(messages)
    ]


def can_reading(messages: Sequence[Message], microseconds: int, where: str) -> CanReading:
    """Acceleration, rotation rate and velocity of the first message after this time, or else of the last of all.

    The reference searches for the last message *until* this time and uses its position and orientation, but the
    readings of the message at which its search ends, which is the next one, 20 ms later.
    """
    message = next((message for message in messages if message["utime"] > microseconds), messages[-1])
    return CanReading(*(array_field(message[name], f"{where}: {name}", (3,)) for name in _READINGS))
