"""Processes whose parents have died: on Linux they can be ended like children."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from toolkit.stops import stops_held

PR_SET_CHILD_SUBREAPER = 36


@contextmanager
def orphans_ended() -> Iterator[None]:
    """Nothing that is started in the block outlives it, neither children of this process nor theirs, at any remove.

    Elsewhere than on Linux the block is only run.
    """
    if sys.platform != "linux":
        yield
        return
    others = _children()
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # whose parent dies becomes a child of this process
    try:
        yield
    finally:
        with stops_held():
            while left := _children() - others:
                for process in left:
                    with suppress(ProcessLookupError, ChildProcessError):
                        os.kill(process, signal.SIGKILL)
                        os.waitpid(process, 0)
            prctl(PR_SET_CHILD_SUBREAPER, 0)


def _children() -> set[int]:
    """The processes whose parent is this one."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            _, parent = file.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid():
                found.add(int(file.parent.name))
    return found
