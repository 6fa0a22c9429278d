"""Calls in a process of its own come back with a value, or end at their limits."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.bounded.limits import CallFailed, LimitExceeded, Limits
from toolkit.bounded.process import BoundedProcess

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def process() -> Iterator[BoundedProcess]:
    with BoundedProcess(Limits(seconds=2, bytes=2**29)) as process:
        yield process


def test_values_come_back(process: BoundedProcess) -> None:
    assert process.call(math.hypot, 3, 4) == 5
    assert process.call(sorted, [2, 1], reverse=True) == [2, 1]


def test_large_arrays_come_back(process: BoundedProcess) -> None:
    array = np.arange(3_000_000, dtype=np.float32)
    np.testing.assert_array_equal(process.call(np.negative, array), -array)


def test_what_is_written_to_the_output_is_no_answer(process: BoundedProcess, capfd: pytest.CaptureFixture[str]) -> None:
    assert process.call(os.system, "echo hello; echo hello >&2") == 0
    assert capfd.readouterr() == ("", "")


def test_calls_have_one_process_in_common(process: BoundedProcess) -> None:
    assert process.call(os.getpid) == process.call(os.getpid) != os.getpid()


def test_errors_of_the_function_are_told_in_one_line(process: BoundedProcess) -> None:
    with pytest.raises(CallFailed, match=r"^ValueError: "):
        process.call(math.sqrt, -1)
    assert process.call(math.sqrt, 4) == 2


EXCEEDING: dict[str, tuple[Callable[..., object], Any, str]] = {
    "time": (time.sleep, 600, "did not end within 2 s"),
    "memory": (bytes, 2**30, "needs more than 0.537 GB of memory"),
    "arguments": (len, b"0" * 2**29, "needs more than 0.537 GB of memory"),
    "crash": (ctypes.string_at, 0, "was ended by SIGSEGV, perhaps for want of more than 0.537 GB of memory"),
    "end": (os._exit, 7, "ended with status 7"),
}


@pytest.mark.parametrize(("function", "argument", "words"), EXCEEDING.values(), ids=EXCEEDING)
def test_a_call_that_takes_too_much_is_ended(
    function: Callable[..., object], argument: object, words: str, process: BoundedProcess
) -> None:
    started = time.monotonic()
    with pytest.raises(LimitExceeded) as reason:
        process.call(function, argument)
    assert str(reason.value) == words
    assert time.monotonic() - started < 30
    assert process.call(math.sqrt, 4) == 2  # in a new process


def test_the_process_ends_with_the_block() -> None:
    with BoundedProcess(Limits(20, 2**29)) as process:
        child = process.call(os.getpid)
    assert not is_running(child)


def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    """Though that is killed, and in the middle of a call."""
    program = """
        import pathlib, time
        from toolkit.bounded.limits import Limits
        from toolkit.bounded.process import BoundedProcess
        with BoundedProcess(Limits(600, 2**29)) as process:
            import os
            print(process.call(os.getpid), flush=True)
            process.call(time.sleep, 600)
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = (sys.executable, "-c", textwrap.dedent(program))
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=tmp_path) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def test_the_working_folder_lends_no_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold what was downloaded with a model."""
    (tmp_path / "pickle.py").write_text("raise SystemExit('this was run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    with BoundedProcess(Limits(20, 2**29)) as process:
        assert process.call(math.sqrt, 4) == 2


def is_running(process: int) -> bool:
    """Whether a process is there, and not merely waited for."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
