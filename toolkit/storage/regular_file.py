"""Opening files that come from elsewhere: only what holds data, never a pipe to wait for or a device without end."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from toolkit.errors import InputError


def open_regular(path: Path | str) -> BufferedReader:
    """A regular file, opened to be read. Raises OSError, also for anything else that has a name."""
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "is not a regular file", os.fspath(path))
    return file


def read_regular(path: Path | str, limit: int) -> bytes:
    """The bytes of a regular file. Raises OSError as `open_regular` does, and for more than `limit` bytes."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"is larger than {limit} bytes", os.fspath(path))
    return data


def readable_file(path: Path | str, what: str) -> Path:
    """`path`, if it is a file that holds something and can be read; InputError names `what` it should be."""
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{what} {path} is a directory; give the file itself")
        if path.exists() and not path.is_file():
            raise InputError(f"{what} {path} is not a regular file; give the file itself")
        with open_regular(path) as file:
            empty = not file.read(1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{what} {path} cannot be read: {reason}; check the path") from error
    if empty:
        raise InputError(f"{what} {path} is empty; copy or download it again")
    return path


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
