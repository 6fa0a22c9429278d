"""Processes that are forked from one that has imported what they need."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from toolkit.batch.processes import interrupts_blocked, process_pool

RARE = "netrc"
"""A module that nothing else imports."""


def _seen() -> tuple[int, bool, bool]:
    """The process that this one is forked from, whether it has imported what it should, and whether Ctrl-C is seen."""
    return os.getppid(), RARE in sys.modules, signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _check() -> None:
    with process_pool(2, "--workers", preload=[RARE]) as pool:
        with interrupts_blocked():
            begun = [pool.submit(_seen) for _ in range(4)]
        parents, imported, interrupted = zip(*(future.result() for future in begun), strict=True)
    assert len({*parents}) == 1
    assert os.getpid() not in parents
    assert all(imported)
    assert not any(interrupted)


def test_modules_are_imported_once() -> None:
    """In a command of its own: the process that others are forked from lives as long as this one."""
    command = f"from {__name__} import _check; _check()"
    subprocess.run([sys.executable, "-c", command], check=True, timeout=60, cwd=Path(__file__).parent)


def test_without_modules_each_is_started_anew() -> None:
    with process_pool(1, "--workers") as pool:
        with interrupts_blocked():
            begun = pool.submit(_seen)
        assert begun.result() == (os.getpid(), False, False)
