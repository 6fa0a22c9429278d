"""Decoded pictures in a folder: for all processes of a machine, and for later runs.

A picture is a file of its own, which appears whole, so that processes may read and write at the same time without a
lock. What the machine's memory has room for it keeps there by itself; a folder of a file system in memory, such as
/dev/shm, keeps all of it there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ImageConfig
from toolkit.data.preprocess import load_image
from toolkit.errors import InputError
from toolkit.storage.claims import unguarded_file, writing
from toolkit.storage.outputs import new_file
from toolkit.storage.remains import remove_remains

SUFFIX = ".rgb"
_STAMP = np.dtype("<i8")
_HEADER = 4 * _STAMP.itemsize
"""Size and time of the last change (ns) of the picture that was decoded, its height and width; its pixels follow."""


@dataclass(frozen=True)
class CacheFolder:
    """A folder that pictures may be kept in, and how many bytes may lie in it."""

    path: Path
    most_bytes: int

    def of(self, pictures: Iterable[Path], image: ImageConfig) -> PictureCache:
        """A cache for the first of these pictures, as many as there is room for beside what the folder holds of others.

        Makes the folder. Raises InputError if it cannot be.
        """
        with writing(self.path, "cache folder"):
            self.path.mkdir(parents=True, exist_ok=True)
            for entry in self.path.glob(f".*{SUFFIX}"):  # what killed processes had not finished
                remove_remains(self.path / f"{entry.name[1:].partition('.')[0]}{SUFFIX}", SUFFIX)
            held = dict(_held(self.path))
        names = dict.fromkeys(map(_name, pictures))
        free = self.most_bytes - sum(size for name, size in held.items() if name not in names)
        each = _HEADER + image.source_height * image.source_width * 3
        return PictureCache(self.path, image, frozenset(islice(names, max(0, free // each))), len(names))


@dataclass(frozen=True)
class PictureCache:
    """The pictures of some `names` are kept in the folder, out of `count` different ones."""

    folder: Path
    image: ImageConfig
    names: frozenset[str]
    count: int

    def load(self, path: Path) -> NDArray[np.uint8]:
        """As `load_image`: from the folder, if it is there as the picture is now; else decoded, and kept if it may be.

        Where the folder cannot be written, such as on a full disk, pictures are decoded each time.
        """
        file = self.folder / _name(path)
        if file.name not in self.names:
            return load_image(path, self.image)
        shape = (self.image.source_height, self.image.source_width, 3)
        stamp = np.array([*_state(path), *shape[:2]], _STAMP)
        kept = _read(file, stamp, shape)
        if kept is not None:
            return kept
        pixels = load_image(path, self.image)
        with suppress(InputError), new_file(unguarded_file(file, shared=True)) as work, work.open("wb") as stream:
            stream.write(stamp.tobytes())
            stream.write(np.ascontiguousarray(pixels).data)
        return pixels


def _held(folder: Path) -> Iterator[tuple[str, int]]:
    """The names of pictures in a folder and their bytes, but what another process just finished or removed."""
    for entry in os.scandir(folder):
        if entry.name.endswith(SUFFIX):
            with suppress(FileNotFoundError):
                yield entry.name, entry.stat().st_size


def _read(file: Path, stamp: NDArray[np.int64], shape: tuple[int, int, int]) -> NDArray[np.uint8] | None:
    """The pixels of a file, None if it is not there, or of another picture than the stamp says."""
    try:
        data = np.fromfile(file, np.uint8)
    except OSError:
        return None
    if data[:_HEADER].tobytes() != stamp.tobytes() or data.size != _HEADER + np.prod(shape):
        return None
    return data[_HEADER:].reshape(shape)


def _name(path: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:32] + SUFFIX


def _state(path: Path) -> tuple[int, int]:
    """Size and time of the last change; zeros if it cannot be looked at: whoever reads it says why."""
    with suppress(OSError):
        state = path.stat()
        return state.st_size, state.st_mtime_ns
    return 0, 0
