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
OWN, OTHER = "UNIAD_TEST_OWN", "UNIAD_TEST_OTHER"
"""Variables."""


def _seen() -> tuple[int, bool, bool]:
    """The process that this one is forked from, whether it has imported what it should, and whether Ctrl-C is seen."""
    return os.getppid(), RARE in sys.modules, signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _environment() -> dict[str, str]:
    return dict(os.environ)


def _check() -> None:
    """Twice, for the process that others are forked from is older than what the second ones have to know."""
    parents = set[int]()
    for number in "12":
        os.environ[OWN] = number
        before = dict(os.environ)
        with process_pool(2, "--workers", preload=[RARE], variables={OTHER: number}) as pool:
            with interrupts_blocked():
                begun = [pool.submit(_seen) for _ in range(4)]
                environment = pool.submit(_environment)
            forked_from, imported, interrupted = zip(*(future.result() for future in begun), strict=True)
            assert environment.result() == {**before, OTHER: number}
        assert os.environ == before
        parents |= {*forked_from}
        assert all(imported)
        assert not any(interrupted)
    assert len(parents) == 1
    assert os.getpid() not in parents


def test_modules_are_imported_once(tmp_path: Path) -> None:
    """From where this process has them, not from the working folder, and in a command of its own: the process that
    others are forked from lives as long as this one.
    """
    script, working_folder = tmp_path / "script.py", tmp_path / "folder"
    script.write_text(f"from {__name__} import _check\nif __name__ == '__main__':\n    _check()\n")
    working_folder.mkdir()
    (working_folder / f"{RARE}.py").write_text("raise RuntimeError('this is another module')\n")
    places = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": places}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, timeout=60, cwd=working_folder, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_modules_each_is_started_anew() -> None:
    with process_pool(1, "--workers") as pool:
        with interrupts_blocked():
            begun = pool.submit(_seen)
        assert begun.result() == (os.getpid(), False, False)
