"""Writing outputs so that a crash leaves nothing half-written, and reading them back with clear errors."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from toolkit.errors import InputError

MARKER = ".uniad-toolkit"
"""An empty file that tells a folder as an output of this toolkit."""
MAX_JSON_BYTES = 2**24
"""A manifest or a frame has a few thousand bytes."""


@contextmanager
def new_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes `path` when the block succeeds and vanishes when it fails.

    Raises InputError if `path` cannot be written, or exists: `force` replaces it at the end, but only if it is empty or
    an earlier output.
    """
    path = path.absolute()
    work = partial_path(path)
    try:
        if path.exists() and not force:
            raise InputError(f"{path} already exists; choose another output or pass --force to replace it")
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; choose another output folder")
        if path.exists() and any(path.iterdir()) and not (path / MARKER).exists():
            raise InputError(
                f"{path} was not written by this toolkit, so --force keeps it; choose another output folder"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_remains(path)
        work.mkdir()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose a writable output folder") from error
    try:
        yield work
        mark_output(work)
        if path.exists():
            old = work.with_suffix(".old")
            path.rename(old)
            work.rename(path)
            shutil.rmtree(old)
        else:
            work.rename(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside the output `path`, on the same disk, that is gone at the end of the block.

    What killed processes left of theirs is removed first. Raises InputError if it cannot be made.
    """
    work = partial_path(path.absolute())
    try:
        work.parent.mkdir(parents=True, exist_ok=True)
        remove_remains(path.absolute())
        work.mkdir()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose a writable output") from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def partial_path(path: Path) -> Path:
    """The name of what this process has not finished of a folder."""
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.partial")


def remove_remains(path: Path) -> None:
    """Remove the temporary folders beside `path` of processes of this machine that were killed."""
    name = re.compile(re.escape(f".{path.name}.{platform.node()}-") + r"(\d{1,9})\.partial")
    for folder in path.parent.iterdir():
        if (match := name.fullmatch(folder.name)) and not is_running(int(match[1])):
            shutil.rmtree(folder, ignore_errors=True)


def is_running(process: int) -> bool:
    """Whether another process has this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def mark_output(folder: Path) -> None:
    """Mark a folder as ours, and give all its files the usual permissions, which not every library does."""
    marker = folder / MARKER
    marker.touch()
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(marker.stat().st_mode)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that becomes `path` when the block succeeds and vanishes when it fails."""
    path = path.absolute()
    work = path.with_name(f".{os.getpid()}.partial.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield work
        work.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; choose a writable output") from error
    finally:
        with suppress(OSError):
            work.unlink()


def read_json(path: Path, remedy: str = "repair the file") -> Any:
    """Parsed JSON; InputError names the file and position of a fault, and the remedy."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
        if len(data) > MAX_JSON_BYTES:
            raise InputError(f"{path} is larger than {MAX_JSON_BYTES} bytes; {remedy}")
        return json.loads(data.decode())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error!s:.200}; {remedy}") from error


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
