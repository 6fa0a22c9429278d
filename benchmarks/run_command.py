"""`uniad-toolkit run` as a user starts it: seconds until its first frame, and frames a second from then on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

COMMAND = (sys.executable, "-c", "from toolkit.cli.main import main; main()")
FRAME_LINE = re.compile(r" +[\d.]+ s +.+: \d+ boxes")


@dataclass(frozen=True)
class TimedRun:
    """When the lines of frames came, in seconds after the start of the process, and when that was over."""

    lines: tuple[float, ...]
    ended: float

    @property
    def first_frame(self) -> float:
        return self.lines[0]

    @property
    def frames_per_second(self) -> float:
        """From the first line to the end of the command, which waits for all that is written and drawn."""
        return (len(self.lines) - 1) / (self.ended - self.lines[0])


def timed_run(bundle: Path, frames: str, options: Sequence[str], kept: Path | None = None) -> TimedRun:
    """Run frames into a temporary folder; networks are `kept` in a folder, if given.

    Raises CalledProcessError, with what the command printed, if it fails.
    """
    environment = os.environ | ({} if kept is None else {"UNIAD_TOOLKIT_KEPT": str(kept)})
    lines: list[float] = []
    printed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        command = [*COMMAND, "run", str(bundle), frames, "-o", str(Path(folder, "results")), *options]
        started = time.perf_counter()
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                printed.append(line)
                if FRAME_LINE.match(line):
                    lines.append(time.perf_counter() - started)
        ended = time.perf_counter() - started
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, "".join(printed))
    return TimedRun(tuple(lines), ended)
