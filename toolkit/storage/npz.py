"""Writing npz files, and reading those of other people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, is_zipfile

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from toolkit.errors import InputError
from toolkit.storage.regular_file import open_regular, readable_file
from toolkit.text import one_line

COMPRESSION = 1
"""Of grids that a model gives, one sixth of the default's time and a seventh more bytes."""


def write_npz(file: Path | BytesIO, arrays: Iterable[tuple[str, NDArray[Any]]], *, compressed: bool = False) -> None:
    """Write what `numpy.load` reads, one array at a time.

    Unlike `numpy.savez`, it ends with the OSError alone where the disk is full.
    """
    with ZipFile(file, "w", ZIP_DEFLATED if compressed else ZIP_STORED, compresslevel=COMPRESSION) as archive:
        for name, array in arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read_npz(path: Path, what: str, most: int) -> dict[str, NDArray[Any]]:
    """All arrays of a file by name; `what` they are for. Raises InputError for more than `most` bytes, or no npz."""
    with opened_npz(path, what) as archive:
        assert archive.zip is not None  # it is open
        if sum(member.file_size for member in archive.zip.infolist()) > most:
            raise InputError(f"{what} {path} hold more than {most} bytes; write fewer or smaller arrays")
        return {key: array_in(archive, key) for key in archive.files}


@contextmanager
def opened_npz(path: Path, what: str) -> Iterator[NpzFile]:
    """A file as numpy reads it. Raises InputError for whatever is wrong with it in the block."""
    try:
        if not is_zipfile(readable_file(path, what)):
            raise ValueError("it is no zip archive")
        with open_regular(path) as file, np.load(file, allow_pickle=False) as archive:
            yield archive
    except InputError:
        raise
    # Foreign bytes can make the parsers fail in any way.
    except Exception as error:
        raise InputError(f"{path} is not a readable npz: {one_line(error)}; write it with numpy.savez") from error


def array_in(archive: NpzFile, key: str) -> NDArray[Any]:
    """An array of a file. Raises ValueError for a member that is none: numpy gives its bytes."""
    array = archive[key]
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{key} is no array")
    return array
