"""Folders of the user's cache that hold what is trusted because nobody else can have written it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from toolkit.errors import InputError


def cache_folder() -> Path:
    """Where the toolkit keeps what it can make again. Raises InputError for a user who has no home."""
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(named) if named else Path.home() / ".cache") / "uniad-toolkit"
    except RuntimeError as error:
        raise InputError("there is no home folder to keep anything in; name one in XDG_CACHE_HOME") from error


def private_folder(path: Path) -> Path:
    """The folder, made if it is not there, which its owner alone can look into.

    Raises InputError if it cannot be made, is a link, belongs to someone else or is open to others.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status = path.lstat()
    except OSError as error:
        raise InputError(f"{path} cannot be used: {error.strerror or error}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path} is not a folder; remove it")
    if status.st_uid != os.geteuid():
        raise InputError(f"{path} belongs to another user; remove it, or name another folder")
    if status.st_mode & 0o077:
        raise InputError(f"{path} is open to other users; remove it, or chmod 700 it if nobody else wrote there")
    return path
