"""Malformed inputs whose bounds of memory are those of a process: each command has one of its own, as for users.

A process that has run for long has freed memory, which a command would have at its disposal beyond its limit.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus.case import Sample
from tests.corpus.onnx_models import parts

MOST_SECONDS, MOST_BYTES = 20, 10**9
"""Processor time, and memory above the file's own size."""


@pytest.mark.parametrize("command", ["inspect bad.onnx", "rewrite bad.onnx -o out.onnx"])
def test_ten_million_parts_take_no_more_memory_than_they_may(command: str, tmp_path: Path, sample: Sample) -> None:
    parts(10 * 2**20)(tmp_path, sample)
    program = [sys.executable, "-c", "from toolkit.cli.main import main; main()", *command.split()]
    running = subprocess.Popen(program, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    with running.stderr as stream:
        errors = stream.read()
    _, status, usage = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    assert running.returncode == 2, errors
    assert "bad.onnx" in errors
    assert "it takes more memory than a file of its size should" in errors
    assert usage.ru_utime + usage.ru_stime < MOST_SECONDS
    assert 1024 * usage.ru_maxrss < MOST_BYTES + (tmp_path / "bad.onnx").stat().st_size
