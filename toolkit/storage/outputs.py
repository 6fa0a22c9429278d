"""Writing outputs so that they appear whole or not at all, and replace nothing but what they were allowed to.

A command claims its outputs (`toolkit.storage.claims`), works, and writes them here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from toolkit.errors import InputError
from toolkit.stops import stops_held
from toolkit.storage.claims import MARKER, FileOutput, FolderOutput, Output, identity, unguarded_file, writing
from toolkit.storage.moves import exchange, move_new
from toolkit.storage.remains import partial_path, remove_remains


@contextmanager
def new_folder(output: FolderOutput) -> Iterator[Path]:
    """A temporary folder beside an output that takes its name when the block succeeds and vanishes when it fails.

    Raises InputError if it cannot be written, or if the name has been taken, or what was to be replaced has changed,
    since the claim: that is kept.
    """
    work = partial_path(output.path)
    with writing(output.given, "output folder"):
        work.parent.mkdir(parents=True, exist_ok=True)
        try:
            work.mkdir()
            yield work
            if output.kind is not None:
                _mark(work, output.kind)
            with stops_held():
                _place(work, output)
        finally:
            _remove(work)


@contextmanager
def new_file(output: FileOutput | Path) -> Iterator[Path]:
    """A temporary name beside a file, with its suffix, that becomes the file when the block succeeds.

    It vanishes when the block fails. A path stands for the claim of an `unguarded_file` that is made now. Raises
    InputError as `new_folder` does.
    """
    with new_files(output) as (work,):
        yield work


@contextmanager
def new_files(*outputs: FileOutput | Path) -> Iterator[tuple[Path, ...]]:
    """Like `new_file`, for several of which all appear or none."""
    claimed = [output if isinstance(output, FileOutput) else unguarded_file(output) for output in outputs]
    works = tuple(partial_path(output.path, output.suffix) for output in claimed)
    with writing(claimed[0].given, "output"):
        try:
            for work in works:
                work.parent.mkdir(parents=True, exist_ok=True)
            yield works
            with stops_held(), ExitStack() as undo:
                for output, work in zip(claimed, works, strict=True):
                    _place(work, output)
                    undo.callback(_take_back, work, output)
                undo.pop_all()
        finally:
            _remove(*works)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside the output `path`, on the same disk, that is gone at the end of the block.

    Its owner alone can look into it. What killed processes left of theirs is removed first. Raises InputError if it
    cannot be made.
    """
    with writing(path, "output"):
        work = partial_path(path.absolute())
        work.parent.mkdir(parents=True, exist_ok=True)
        remove_remains(path.absolute())
    try:
        with writing(path, "output"):
            work.mkdir(mode=0o700)
        yield work
    finally:
        _remove(work)


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """A scratch folder where temporary files belong."""
    try:
        place = Path(tempfile.gettempdir())
    except OSError as error:
        raise InputError("cannot write temporary files; free some disk space, or set TMPDIR to a folder") from error
    with scratch_folder(place / f"uniad-toolkit-{purpose}") as folder:
        yield folder


def _remove(*works: Path) -> None:
    """Remove what has temporary names, also if a stop comes just before it would be held."""
    try:
        with stops_held():
            _remove_now(works)
    finally:
        if any(map(os.path.lexists, works)):
            with stops_held():
                _remove_now(works)


def _remove_now(works: tuple[Path, ...]) -> None:
    for work in works:
        if work.is_dir() and not work.is_symlink():
            shutil.rmtree(work, ignore_errors=True)
        else:
            with suppress(OSError):
                work.unlink()


def _mark(folder: Path, kind: str) -> None:
    """Mark a folder as ours, and give all its files the usual permissions, which not every library does.

    Files that have other names as well are left as they are, for there they belong to somebody else.
    """
    marker = folder / MARKER
    marker.write_text(f"{kind}\n", encoding="utf-8")
    for file in folder.rglob("*"):
        if file.is_file() and file.stat().st_nlink == 1:
            file.chmod(marker.stat().st_mode)


def _place(work: Path, output: Output) -> None:
    """Give an output its name; what it replaces, if anything, has the temporary name then.

    Raises InputError if something else has the name than at the claim. That is left, or put back in the moment in which
    it is found.
    """
    now = identity(output.path)
    try:
        if isinstance(output, FileOutput) and output.shared:
            work.replace(output.path)
        elif now is None:
            move_new(work, output.path)
        elif now == output.before:
            exchange(work, output.path)
            if identity(work) != output.before:
                exchange(work, output.path)
                raise FileExistsError
        else:
            raise FileExistsError
    except FileExistsError as error:
        raise InputError(
            f"{output} was made or changed by someone else meanwhile, and is kept; choose another output, and try again"
        ) from error


def _take_back(work: Path, output: Output) -> None:
    """Undo `_place`."""
    if os.path.lexists(work):
        exchange(work, output.path)
    else:
        output.path.rename(work)
