"""The frames that a verification runs: probe frames of the bundle's own, frames of a source, or official tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Sequence as Samples
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from toolkit.bundle import Bundle
from toolkit.data.ego_motion import warn_of_other_rotation
from toolkit.data.frames import Frame
from toolkit.data.probe import probe_frames
from toolkit.data.sequence import sequence_inputs
from toolkit.data.source_kind import FrameSourceKind
from toolkit.data.sources import image_files, open_frames
from toolkit.errors import InputError
from toolkit.reference_interface import tensors as official
from toolkit.reference_interface.replay import read_inputs
from toolkit.text import quoted

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


def sampled_sequence(
    bundle: Bundle,
    address: str,
    samples: Samples[str | None],
    sources: Collection[FrameSourceKind],
    warn: Callable[[str], None],
) -> Sequence:
    """The frames at an address that a dump recorded: from the one on that the data set calls as the dump's first.

    Without such names it begins with the first. Raises InputError for a bad address, and for other frames.
    """
    frames = list(open_frames(address, bundle.config.image, sources, warn))
    first = next((i for i, frame in enumerate(frames) if is_sample(frame, samples[0])), None)
    if first is None and samples[0] is not None:
        warn(f"{address} has no frame {quoted(samples[0])}, with which the dump begins; the first is taken for it")
    chosen = frames[first or 0 :][: len(samples)]
    if len(chosen) < len(samples):
        raise InputError(
            f"{address} holds {len(chosen)} frames from the dump's first on, the dump {len(samples)}; give the frames "
            "that were dumped, or a lower --length"
        )
    for frame, sample in zip(chosen, samples, strict=True):
        if first is not None and sample is not None and not is_sample(frame, sample):
            raise InputError(
                f"{address} goes on with frame {quoted(frame.name)}, the dump with {quoted(sample)}; give the frames "
                "that were dumped"
            )
    inputs = sequence_inputs(chosen, bundle.config, previous=frames[first - 1] if first else None)
    return Sequence((arrays for _, arrays in inputs), len(chosen), pictures=tuple(image_files(chosen)))


def is_sample(frame: Frame, sample: str | None) -> bool:
    """Whether the data set calls a frame so; frames of nuScenes have their number before it."""
    return sample is not None and (frame.name == sample or frame.name.endswith(f"_{sample}"))


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


def dumped_sequence(bundle: Bundle, path: Path, count: int) -> Sequence:
    """As `official_sequence`, of the `count` first frames of a dump."""
    if (available := len(read_inputs(path))) < count:
        raise InputError(
            f"{path} holds {available} frames, the dump {count}; give the frames that were dumped, or --length "
            f"{available}"
        )
    return official_sequence(bundle, path, count)


def check_length(path: Path | str, available: int, wanted: int | None) -> int:
    """How many frames to run: all, unless fewer are wanted."""
    if wanted is not None and wanted > available:
        raise InputError(f"{path} holds {available} frames, fewer than --length {wanted}; lower it or leave it out")
    return wanted or available
