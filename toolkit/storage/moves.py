"""Renaming without overwriting: in one step where kernel and file system can, step by step where they cannot."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

_NOREPLACE, _EXCHANGE = 1, 2
_WORKING_FOLDER = -100
_UNABLE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def move_new(source: Path, target: Path) -> None:
    """Rename a file or folder to a name that is free. Raises FileExistsError if it is not, whatever has it.

    Where there is no such system call, the name is first taken by something empty.
    """
    if _renameat2(source, target, _NOREPLACE):
        return
    with _alone_in(target.parent):
        _move_by_steps(source, target)


def exchange(one: Path, other: Path) -> None:
    """Let two files or folders beside each other swap names. Raises OSError, with both under their names.

    Where there is no such system call, `other` is gone for a moment: `aside_path(one)` has it then.
    """
    if _renameat2(one, other, _EXCHANGE):
        return
    aside = aside_path(one)
    with _alone_in(other.parent):
        other.rename(aside)
        try:
            _move_by_steps(one, other)
        except BaseException:
            _move_by_steps(aside, other)
            raise
        aside.rename(one)


def aside_path(path: Path) -> Path:
    """The name that `exchange` uses meanwhile."""
    return path.with_name(path.name + ".old")


def _move_by_steps(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir()
    else:
        target.touch(exist_ok=False)
    source.replace(target)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Other processes of ours rename nothing step by step in the folder meanwhile, if its file system knows locks.

    Else one could take what another has put there for a moment to keep a name.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@cache
def _system_call() -> Any:
    """Of libc, which is looked up once; None if it has none."""
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def _renameat2(source: Path, target: Path, flag: int) -> bool:
    """Rename by Linux's system call; False if libc, kernel or file system lack it."""
    call = _system_call()
    if call is None:
        return False
    if call(_WORKING_FOLDER, os.fsencode(source), _WORKING_FOLDER, os.fsencode(target), ctypes.c_uint(flag)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNABLE:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))
