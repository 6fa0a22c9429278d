"""Arrays of frames in an npz, under keys like ``f{t}.in.NAME``, read a frame at a time and within bounds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.lib.npyio import NpzFile

from toolkit.errors import InputError
from toolkit.storage.npz import array_in, opened_npz

MAX_ARRAY_BYTES = 2**27
"""The images of one frame, the largest input, take 8 MB."""
MAX_FRAME_BYTES = 2**28
"""All inputs of a frame with a state take 20 MB, of UniAD-base 160."""


class OfficialFrames(Sequence[dict[str, np.ndarray]]):
    """Official tensors of every frame in a file, each frame read when it is asked for."""

    def __init__(self, path: Path, keys: Sequence[Mapping[str, str]]) -> None:
        """`keys` has for each frame the names of its tensors, and what they are called in the file."""
        self._path, self._keys = path, keys

    def __len__(self) -> int:
        return len(self._keys)

    def names(self, number: int) -> frozenset[str]:
        """The tensors that a frame has."""
        return frozenset(self._keys[number])

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


def read_frames(path: Path, key: re.Pattern[str], admit: Callable[[str, str, int], bool]) -> OfficialFrames:
    """The tensors of every frame whose keys match: a pattern with two groups, the frame's number and the name.

    `admit` is asked with key, name and number whether a tensor is wanted. Raises InputError for a file that is no npz,
    no frames, a gap in their numbers, or more data than a frame has; for data that are damaged, when the frame is read.
    """
    frames: dict[int, dict[str, str]] = {}
    sizes: Counter[int] = Counter()
    with opened_npz(path, "inputs") as archive:
        stated = stated_sizes(archive)
        for entry in archive.files:
            match = key.fullmatch(entry)
            if match is None or not admit(entry, match[2], int(match[1])):
                continue
            number, name, size = int(match[1]), match[2], stated[entry]
            sizes[number] += size
            # Compressed arrays may be any size; these would be refused by their shape, but only later.
            if size > MAX_ARRAY_BYTES:
                raise InputError(f"{path}: {entry}.npy is larger than {MAX_ARRAY_BYTES} bytes; no input is")
            if sizes[number] > MAX_FRAME_BYTES:
                raise InputError(f"{path}: frame {number} is larger than {MAX_FRAME_BYTES} bytes; no inputs are")
            frames.setdefault(number, {})[name] = entry
    for number in range(len(frames)):
        if number not in frames:
            raise InputError(f"{path}: frame {number} is missing; t must be contiguous from 0")
    return OfficialFrames(path, [frames[number] for number in range(len(frames))])


def stated_sizes(archive: NpzFile) -> Counter[str]:
    """How many bytes each array takes, by what the file says."""
    assert archive.zip is not None  # it is open
    sizes: Counter[str] = Counter()
    for member in archive.zip.infolist():
        sizes[member.filename.removesuffix(".npy")] += member.file_size
    return sizes
