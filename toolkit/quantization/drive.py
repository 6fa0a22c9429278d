"""Frames that a bundle is calibrated on, or driven over, in order, as often as is needed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.bundle import Bundle
from toolkit.config.model import ModelConfig
from toolkit.data.ego_motion import warn_of_other_rotation
from toolkit.data.frames import CameraView, Frame
from toolkit.data.sequence import sequence_inputs
from toolkit.data.source_kind import FrameSourceKind
from toolkit.data.sources import open_frames
from toolkit.errors import InputError
from toolkit.storage.files import sha256_file
from toolkit.text import quoted

LEAST_FRAMES = 8
"""Of a calibration, all of which must differ: with fewer the ranges are those of single frames."""


@dataclass(frozen=True, eq=False)
class Drive:
    """The `frames` at an `address`; iterating prepares them for the network anew, one at a time."""

    address: str
    frames: Sequence[Frame]
    config: ModelConfig

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
        """The frame inputs of each. Raises InputError for a picture that cannot be used."""
        return (inputs for _, inputs in sequence_inputs(self.frames, self.config))

    @property
    def scenes(self) -> Mapping[str, int]:
        """How many frames each scene has, in order."""
        return Counter(frame.scene for frame in self.frames)

    def digest(self) -> str:
        """Of all pictures in order, and of which scene each frame is."""
        content = hashlib.sha256()
        for frame in self.frames:
            content.update(f"{frame.scene}\0{picture_digest(frame)}\n".encode())
        return content.hexdigest()


def open_drive(
    bundle: Bundle, address: str, sources: Collection[FrameSourceKind], warn: Callable[[str], None]
) -> Drive:
    """The frames at an address. Raises InputError as `open_frames` does."""
    frames = open_frames(address, bundle.config.image, sources, warn)
    warn_of_other_rotation(frames, bundle.config.can_bus_rotation, warn)
    return Drive(address, tuple(frames), bundle.config)


def require_calibratable(drive: Drive) -> None:
    """Raise InputError for frames whose ranges would mislead: too few, too many alike, or a scene without a past."""
    if len(drive) < LEAST_FRAMES:
        raise InputError(f"{drive.address} holds {len(drive)} frames; calibrate on at least {LEAST_FRAMES}")
    require_whole_scenes(drive)
    distinct = len({picture_digest(frame) for frame in drive.frames})
    if distinct < LEAST_FRAMES:
        raise InputError(
            f"{drive.address}: only {distinct} of {len(drive)} frames differ in their pictures; calibrate on at least "
            f"{LEAST_FRAMES} that do"
        )


def require_whole_scenes(drive: Drive) -> None:
    """Raise InputError for a scene of one frame, which shows nothing of the state."""
    single = [scene for scene, frames in drive.scenes.items() if frames == 1]
    if single:
        raise InputError(
            f"{drive.address}: scene {quoted(single[0])} has one frame, after which no state is fed back; give scenes "
            "as a whole"
        )


def picture_digest(frame: Frame) -> str:
    """Of the pictures of all cameras."""
    content = hashlib.sha256()
    for name, view in sorted(frame.cameras.items()):
        content.update(f"{name}\0{_view_digest(view)}\n".encode())
    return content.hexdigest()


def _view_digest(view: CameraView) -> str:
    if isinstance(view.image, np.ndarray):
        return hashlib.sha256(view.image.tobytes()).hexdigest()
    try:
        return sha256_file(view.image)
    except OSError as error:
        raise InputError(
            f"{view.image}: cannot be read ({error.strerror}); check the path in the frame's JSON"
        ) from error
