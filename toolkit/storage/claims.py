"""What a command may write: claimed before its work begins, and never in place of what it reads.

Symbolic links are followed. docs/what-happens-to-my-files.md has the rules for users.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from toolkit.errors import InputError
from toolkit.storage.remains import remove_remains

MARKER = ".uniad-toolkit"
"""A file that tells a folder as an output of this toolkit; it says of what kind."""
KIND_BY_CONTENT = {"bundle.json": "bundle", "run.jsonl": "results", "maps": "nuScenes dataset", "dataroot": "demo"}
"""What tells the kind of a folder whose marker is empty, as earlier versions left it."""

Identity = tuple[int, int, int]
"""Device, inode and time of the last change (ns)."""
Inode = tuple[int, int]


@dataclass(frozen=True)
class FileOutput:
    """A file that may be written: `path` without links and `..`, and what was there when it was claimed, if anything.

    `given` is the name that the user knows it by, whose suffix tells the format. A `shared` one belongs to a cache:
    whoever writes it last wins.
    """

    path: Path
    before: Identity | None
    given: Path
    shared: bool = False

    @property
    def suffix(self) -> str:
        return self.given.suffix

    def __str__(self) -> str:
        return str(self.given)


@dataclass(frozen=True)
class FolderOutput:
    """A folder that may be written, like a file; `kind` says what it will hold, None that it is its user's own work."""

    path: Path
    before: Identity | None
    given: Path
    kind: str | None

    def __str__(self) -> str:
        return str(self.given)


Output = FileOutput | FolderOutput


def claim_file(
    path: Path, *, inputs: Iterable[Path | None] = (), others: Iterable[Output | None] = (), shared: bool = False
) -> FileOutput:
    """The right to write a file, which may replace the one that is there now.

    `inputs` are the files and folders that the command reads, `others` what else it writes. Raises InputError for a
    folder, a device, a pipe or a socket, a place that cannot be written, and what `keep_apart` refuses.
    """
    place = _resolve(path, "output")
    keep_apart(FileOutput(place, None, path), inputs, others)
    remove_remains(place, path.suffix)
    return unguarded_file(path, shared=shared)


def claim_folder(
    path: Path,
    kind: str | None,
    *,
    force: bool = False,
    inputs: Iterable[Path | None] = (),
    others: Iterable[Output | None] = (),
) -> FolderOutput:
    """The right to write a folder, which with `force` may replace an empty one, or an output of the same kind.

    Raises InputError as `claim_file` does, and for a folder that may not be replaced.
    """
    place = _resolve(path, "output folder")
    keep_apart(FolderOutput(place, None, path, kind), inputs, others)
    remove_remains(place)
    output = FolderOutput(place, identity(place), path, kind)
    with writing(path, "output folder"):
        _require_replaceable(path, kind, force)
    return output


def unguarded_file(path: Path, *, shared: bool = False) -> FileOutput:
    """Like `claim_file`, for a file that cannot be an input, or another output, of the command."""
    place = _resolve(path, "output")
    if place.is_dir():
        raise InputError(f"cannot write {path}: Is a directory; name a file in it")
    return FileOutput(place, identity(place), path, shared)


def keep_apart(output: Output, inputs: Iterable[Path | None], others: Iterable[Output | None] = ()) -> None:
    """Raise InputError if an output is, contains or lies inside an input, by whatever name, or another output.

    Inputs that are None or do not exist are passed over. What links in an input folder lead to is an input as well.
    """
    for other in others:
        if other is not None and other.path == output.path:
            raise InputError(f"{output} is named for two outputs; choose another for one of them")
        if isinstance(other, FolderOutput) and other.path in output.path.parents:
            raise InputError(f"{output} lies inside {other}, another output, which is made as a whole; choose another")
    own, around = _inode(output.path), {_inode(folder) for folder in output.path.parents}
    above: dict[Path, set[Inode | None]] = {}

    def within_output(folder: Path) -> bool:
        if folder not in above:
            real = Path(os.path.realpath(folder))
            above[folder] = {_inode(parent) for parent in (real, *real.parents)}
        return own in above[folder]

    for place in chain.from_iterable(map(_with_links, inputs)):
        found = None if place is None else _inode(place)
        if place is None or found is None:
            continue
        if found == own:
            relation = "is"
        elif found in around:
            relation = "lies inside"
        # Not only what a link leads to would be lost with the folder that it is in, but the link too.
        elif own is not None and (
            within_output(place.parent) or (place.is_symlink() and within_output(place.resolve().parent))
        ):
            relation = "contains"
        else:
            continue
        what = "" if str(place) == str(output) else f" {place},"
        raise InputError(f"{output} {relation}{what} an input of this command; choose another output")


def identity(path: Path) -> Identity | None:
    """What has this name now; None if nothing does."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def folder_kind(folder: Path) -> str | None:
    """What a folder's marker says that it holds; empty if nothing tells, None if it is no output of this toolkit."""
    marker = folder / MARKER
    if not marker.is_file():
        return None
    with marker.open("rb") as file:
        kind = " ".join(file.read(100).decode(errors="replace").split())
    return kind or next((kind for name, kind in KIND_BY_CONTENT.items() if (folder / name).exists()), "")


@contextmanager
def writing(path: Path, what: str) -> Iterator[None]:
    """Turns what the system says of the block into an InputError that names the output."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; choose a writable {what}") from error


def _resolve(path: Path, what: str) -> Path:
    """A path without links and `..`. Raises InputError if nothing can be written there."""
    with writing(path, what):
        place = Path(os.path.realpath(path))
        if not place.name:
            raise InputError(f"cannot write {path}: it is the root of the file system; choose a writable {what}")
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            mode = stat.S_IFREG
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise InputError(f"cannot write {path}: it is a device, a pipe or a socket; choose a writable {what}")
        above = next(folder for folder in place.parents if folder.exists())
        if not os.access(above, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"{above} is not writable")
    return place


def _require_replaceable(path: Path, kind: str | None, force: bool) -> None:
    """Raise InputError if there is something that may not be replaced by a folder of a kind."""
    if not path.exists():
        return
    if not path.is_dir():
        raise InputError(f"{path} is a file; choose another output folder")
    if not force:
        if kind is None:  # nothing replaces that
            raise InputError(f"{path} already exists; choose another output")
        raise InputError(f"{path} already exists; choose another output or pass --force to replace it")
    if os.path.ismount(path):
        raise InputError(f"{path} is where a disk is mounted, which --force cannot replace; name a folder in it")
    found = folder_kind(path)
    if any(path.iterdir()) and found is None:
        raise InputError(f"{path} was not written by this toolkit, so --force keeps it; choose another output folder")
    if found and found != kind:
        raise InputError(f"{path} holds {found}, not {kind}, so --force keeps it; choose another output folder")


def _with_links(place: Path | None) -> Iterator[Path | None]:
    """An input, and the links that it holds if it is a folder."""
    yield place
    with suppress(OSError, ValueError):
        if place is not None and place.is_dir():
            with os.scandir(place) as entries:
                yield from [Path(entry) for entry in entries if entry.is_symlink()]


def _inode(path: Path) -> Inode | None:
    """What a path leads to; None if it leads to nothing."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
