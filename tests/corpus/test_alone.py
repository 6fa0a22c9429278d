"""Malformed inputs whose bounds of memory are those of a process: each command has one of its own, as for users.

A process that has run for long has freed memory, which a command would have at its disposal beyond its limit.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus.case import Sample
from tests.corpus.onnx_models import parts

MOST_SECONDS, MOST_BYTES = 20, 10**9
"""Processor time, and memory above the file's own size."""
MEASURED = """
import re, time
from pathlib import Path
from toolkit.cli.main import main
try:
    main()
finally:
    peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)
    Path("cost").write_text(f"{time.process_time()} {peak}")
"""
"""A command that leaves its processor seconds and its peak of memory (KiB) in a file.

The kernel's `ru_maxrss` would begin with what the process had from which it was forked, the tests' own.
"""


@pytest.mark.parametrize("command", ["inspect bad.onnx", "rewrite bad.onnx -o out.onnx"])
def test_ten_million_parts_take_no_more_memory_than_they_may(command: str, tmp_path: Path, sample: Sample) -> None:
    parts(10 * 2**20)(tmp_path, sample)
    program = [sys.executable, "-c", MEASURED, *command.split()]
    run = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 2, run.stderr
    assert "bad.onnx" in run.stderr
    assert "it takes more memory than a file of its size should" in run.stderr
    seconds, peak = (tmp_path / "cost").read_text(encoding="utf-8").split()
    assert float(seconds) < MOST_SECONDS
    assert 1024 * int(peak) < MOST_BYTES + (tmp_path / "bad.onnx").stat().st_size
