"""Running a command on a malformed input, in this process, and what must hold however it ends."""

from __future__ import annotations

import re
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.corpus.case import MARK, Sample
from tests.docs.test_troubleshooting import MESSAGES
from toolkit.cli.main import run

EXPLAINED = re.compile("|".join(".*".join(map(re.escape, message.split("…"))) for message in MESSAGES))
"""What the page on troubleshooting explains; it abbreviates by …"""
MAX_SECONDS = 5
"""Of processor time, so that a busy machine does not matter."""
MAX_BYTES = 2**29


@dataclass(frozen=True)
class Ending:
    """How a command ended: its exit status, and what it wrote to the terminal."""

    status: int
    out: str
    err: str


def run_bounded(command: str, folder: Path, sample: Sample, capfd: pytest.CaptureFixture[str]) -> Ending:
    """Run a command in `folder`, the working folder.

    However it ends: it keeps within bounds of time and memory, runs no input, writes no traceback, and nothing to the
    terminal that this would obey.
    """
    capfd.readouterr()
    reset_peak_memory()
    memory, started = memory_in_use("VmRSS"), time.process_time()
    status = run(shlex.split(command.replace("{sample}", str(sample.folder))))
    seconds, grown = time.process_time() - started, memory_in_use("VmHWM") - memory
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert all(c.isprintable() or c == "\n" for c in out + err), (out, err)
    assert not (folder / MARK).exists()
    assert seconds < MAX_SECONDS
    assert grown < MAX_BYTES
    return Ending(status, out, err)


def check_error(text: str, words: tuple[str, ...] = ()) -> None:
    """One line that begins with ``error:``, holds the words and is documented; only misfits of weights are a table."""
    first, *rest = text.splitlines()
    assert first.startswith("error: "), text
    assert not rest or "the checkpoint does not fit the model" in first, text
    for word in words:
        assert word in text, text
    assert EXPLAINED.search(first), f"not in docs/troubleshooting.md: {text}"


def snapshot(folder: Path) -> list[tuple[Path, int, int]]:
    """Every file below a folder with its size and time of change."""
    return sorted((path, s.st_size, s.st_mtime_ns) for path in folder.rglob("*") for s in [path.lstat()])


def snapshot_without_kept(folder: Path) -> list[tuple[Path, int, int]]:
    """The same, but for the frames that a run had finished before an error, which it keeps beside its output."""
    return [file for file in snapshot(folder) if "out-partial" not in file[0].relative_to(folder).parts]


def reset_peak_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def memory_in_use(field: str) -> int:
    """Bytes of this process's memory: now ("VmRSS") or at its peak ("VmHWM")."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:")]
    return 1024 * int(line.split()[1])
