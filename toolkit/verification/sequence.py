"""The frames that a verification runs: probe frames of the bundle's own, frames of a source, or official tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from toolkit.bundle import Bundle
from toolkit.data.ego_motion import warn_of_other_rotation
from toolkit.data.preprocess import sequence_inputs
from toolkit.data.probe import probe_frames
from toolkit.data.source_kind import FrameSourceKind
from toolkit.data.sources import image_files, open_frames
from toolkit.errors import InputError
from toolkit.reference_interface import tensors as official
from toolkit.reference_interface.replay import read_inputs

PROBE_LENGTH = 6


@dataclass(frozen=True, eq=False)
class Sequence:
    """`length` frames of tensors for every frame input, made when asked for, and the state before the first.

    Without a `start` the state is zeros. `pictures` are the files that the frames are read from, wherever these are.
    """

    frames: Iterable[Mapping[str, np.ndarray]]
    length: int
    start: Mapping[str, np.ndarray] | None = None
    pictures: tuple[Path, ...] = ()


def probe_sequence(bundle: Bundle, length: int | None) -> Sequence:
    """Made-up frames, `PROBE_LENGTH` by default; a new scene begins after two thirds of them."""
    length = length or PROBE_LENGTH
    return Sequence(probe_frames(bundle.config, length, scene_change=-(-2 * length // 3)), length)


def frame_sequence(
    bundle: Bundle, address: str, length: int | None, sources: Collection[FrameSourceKind], warn: Callable[[str], None]
) -> Sequence:
    """The first frames at an address (`open_frames`) of one of these `sources`.

    Raises InputError for a bad one, or for fewer than `length`.
    """
    frames = open_frames(address, bundle.config.image, sources, warn)
    count = check_length(address, len(frames), length)
    warn_of_other_rotation(frames, bundle.config.can_bus_rotation, warn)
    inputs = (inputs for _, inputs in sequence_inputs(islice(frames, count), bundle.config))
    return Sequence(inputs, count, pictures=tuple(image_files(islice(frames, count))))


def official_sequence(bundle: Bundle, path: Path, length: int | None) -> Sequence:
    """The first frames of an npz as `uniad-toolkit replay` takes it. Raises InputError for a bad one or too few."""
    frames = read_inputs(path)
    count = check_length(path, len(frames), length)
    inputs = (
        official.frame_inputs(frame, bundle, f"{path}: f{number}.in.") for number, frame in enumerate(frames[:count])
    )
    first = frames[0]
    starts = any(name in first for name in official.RECURRENT)
    return Sequence(inputs, count, official.state_inputs(first, bundle, f"{path}: f0.in.") if starts else None)


def check_length(path: Path | str, available: int, wanted: int | None) -> int:
    """How many frames to run: all, unless fewer are wanted."""
    if wanted is not None and wanted > available:
        raise InputError(f"{path} holds {available} frames, fewer than --length {wanted}; lower it or leave it out")
    return wanted or available
