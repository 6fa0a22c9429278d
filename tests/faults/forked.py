"""Commands in processes that are forked from one that has imported everything, and what happens to them there.

So a trial takes as long as the command's work, and not the seconds in which torch is imported.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from toolkit.cli.main import main

FORKS = multiprocessing.get_context("forkserver")
TEMPORARY = "tmp"
"""The folder for temporary files, in the working folder."""
CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir")
"""Audit events that change files, besides opening them for writing."""
DEADLINE = 120
"""Seconds after which a command hangs."""


@dataclass(frozen=True)
class Fault:
    """What happens to a command: a signal at the n-th change that it makes to files, or no file gets larger."""

    signal: int = 0
    change: int = 0
    file_bytes: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit status, negative for a signal, and what it said of errors.

    `changes` it made to files in `seconds`.
    """

    status: int
    errors: str
    seconds: float
    changes: int


class Running:
    """A command at work in a folder; in a group of processes of its own."""

    def __init__(self, line: str, folder: Path, fault: Fault | None = None) -> None:
        self._errors, errors = FORKS.Pipe(duplex=False)
        self._changes = FORKS.RawValue("i", -1)
        arguments = (shlex.split(line), folder, errors, self._changes, fault or Fault())
        self._process = FORKS.Process(target=run_command, args=arguments)
        self._process.start()
        errors.close()
        while self._changes.value < 0 and self._process.is_alive():
            time.sleep(0.001)
        self._started = time.monotonic()

    def send_after(self, seconds: float, number: int) -> None:
        """Send a signal when it has worked for a while, unless it ends before."""
        self._process.join(max(0, self._started + seconds - time.monotonic()))
        if self._process.is_alive():
            assert self._process.pid is not None
            os.kill(self._process.pid, number)

    def end(self) -> Outcome:
        """Wait for the end, of the processes that it started as well."""
        errors = b""
        while self._errors.poll(DEADLINE) and (more := os.read(self._errors.fileno(), 2**16)):
            errors += more
        seconds = time.monotonic() - self._started
        self._process.join(1)
        status = self._process.exitcode
        assert status is not None, f"it hangs: {errors.decode()}"
        return Outcome(status, errors.decode(), seconds, self._changes.value)


def start_server() -> None:
    """Start the process that others are forked from, in place of one that the toolkit started for a test before."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # as Python's own tests do
    FORKS.set_forkserver_preload(["tests.faults.imported"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(__file__).parents[2])
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        FORKS.Process(target=int).start()


def run_command(arguments: Sequence[str], folder: Path, errors: Connection, changes: Any, fault: Fault) -> None:
    """Become the command line."""
    os.setsid()
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / TEMPORARY)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(errors.fileno(), 2)
    errors.close()
    sys.argv = ["uniad-toolkit", *arguments]
    if fault.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_bytes, fault.file_bytes))
    changes.value = 0

    def watch(event: str, values: tuple[Any, ...]) -> None:
        if is_change(event, values) and folder in Path(os.fsdecode(values[0])).absolute().parents:
            changes.value += 1
            if changes.value == fault.change:
                os.kill(os.getpid(), fault.signal)

    sys.addaudithook(watch)
    main()


def is_change(event: str, values: tuple[Any, ...]) -> bool:
    """Whether an audit event changes files whose path comes first among its values."""
    if event == "open":
        path, _, flags = values
        return isinstance(path, str | bytes | os.PathLike) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in CHANGES
