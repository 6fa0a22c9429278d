"""Official input tensors through a session, with state fed back: the stable interface for comparing conversions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from toolkit.bundle import Bundle
from toolkit.engines.session import Session
from toolkit.errors import InputError
from toolkit.reference_interface import tensors as official
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.storage.npz import array_in, opened_npz

KEY = re.compile(r"f(\d+)\.in\.(\w+)")
MAX_ARRAY_BYTES = 2**27
"""The images of one frame, the largest input, take 8 MB."""
MAX_FRAME_BYTES = 2**28
"""All inputs of a frame with a state take 20 MB, of UniAD-base 160."""


class OfficialFrames(Sequence[dict[str, np.ndarray]]):
    """Official inputs of every frame in a file, each frame read when it is asked for."""

    def __init__(self, path: Path, keys: Sequence[Mapping[str, str]]) -> None:
        """`keys` has for each frame the names of its inputs, and what they are called in the file."""
        self._path, self._keys = path, keys

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, number: int) -> dict[str, np.ndarray]: ...

    @overload
    def __getitem__(self, number: slice) -> OfficialFrames: ...

    def __getitem__(self, number: int | slice) -> dict[str, np.ndarray] | OfficialFrames:
        if isinstance(number, slice):
            return OfficialFrames(self._path, self._keys[number])
        keys = self._keys[number]
        with opened_npz(self._path, "inputs") as archive:
            return {name: array_in(archive, key) for name, key in keys.items()}


def read_inputs(path: Path) -> OfficialFrames:
    """Official inputs of every frame from an npz with keys ``f{t}.in.NAME``; other keys are ignored.

    Raises InputError for a file that is none, no frames, a gap in the frame numbers, an unknown name, recurrent inputs
    after frame 0, or more data than inputs have; for data that are damaged, when the frame is read.
    """
    frames: dict[int, dict[str, str]] = {}
    sizes: Counter[int] = Counter()
    stated: Counter[str] = Counter()
    with opened_npz(path, "inputs") as archive:
        assert archive.zip is not None  # it is open
        for member in archive.zip.infolist():
            stated[member.filename.removesuffix(".npy")] += member.file_size
        for key in archive.files:
            match = KEY.fullmatch(key)
            if match is None or official.has_no_effect(match[2]):
                continue
            number, name, size = int(match[1]), match[2], stated[key]
            _check_name(path, key, name, number)
            sizes[number] += size
            # Compressed arrays may be any size; these would be refused by their shape, but only later.
            if size > MAX_ARRAY_BYTES:
                raise InputError(f"{path}: {key}.npy is larger than {MAX_ARRAY_BYTES} bytes; no input is")
            if sizes[number] > MAX_FRAME_BYTES:
                raise InputError(f"{path}: frame {number} is larger than {MAX_FRAME_BYTES} bytes; no inputs are")
            frames.setdefault(number, {})[name] = key
    if not frames:
        raise InputError(f"{path} holds no frames; keys are f{{t}}.in.NAME, t contiguous from 0")
    for number in range(len(frames)):
        if number not in frames:
            raise InputError(f"{path}: frame {number} is missing; t must be contiguous from 0")
    return OfficialFrames(path, [frames[number] for number in range(len(frames))])


def _check_name(path: Path, key: str, name: str, number: int) -> None:
    if name in official.RECURRENT and number > 0:
        raise InputError(f"{path}: {key}: recurrent inputs are fed back; give them in frame 0 only, to start the state")
    if name not in official.RECURRENT and name not in official.FRAME and not official.has_no_effect(name):
        raise InputError(f"{path}: {key}: unknown input; known are {', '.join(official.FRAME)}")


def replay(
    bundle: Bundle,
    session: Session,
    frames: Iterable[Mapping[str, np.ndarray]],
    source: str = "",
) -> Iterator[dict[str, np.ndarray]]:
    """Official outputs of each frame, state fed back as the network gives it.

    Raises InputError, which begins with `source`, for tensors that do not fit.
    """
    runner = TemporalRunner(bundle, session, guarded=False)
    names = [spec.name for spec in bundle.results]
    for number, inputs in enumerate(frames):
        where = f"{source}f{number}.in."
        if number == 0 and any(name in inputs for name in official.RECURRENT):
            runner.start(official.state_inputs(inputs, bundle, where))
        frame = official.frame_inputs(inputs, bundle, where)
        yield official.outputs(runner.step(frame, names), frame)


def output_keys(number: int, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of one frame under their ``f{t}.out.NAME`` keys."""
    return {f"f{number}.out.{name}": array for name, array in outputs.items()}
