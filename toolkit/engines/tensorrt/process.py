"""Building an engine in a process of its own: its progress, its log, and how it can end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from toolkit.engines.tensorrt.progress import Phase
from toolkit.engines.tensorrt.request import BuildRequest
from toolkit.engines.tensorrt.sidecar import Sidecar, log_path
from toolkit.errors import CheckFailed, InputError
from toolkit.outputs import scratch_folder

WORKER = (sys.executable, "-m", "toolkit.engines.tensorrt.worker")
"""Its argument is a folder to work in."""
ERROR_MARKS = ("[ERROR]", "[INTERNAL_ERROR]")


def run_build(request: BuildRequest, report: Callable[[list[Phase]], None], worker: Sequence[str] = WORKER) -> Sidecar:
    """Build the engine of a request; its sidecar, written like the engine. `report` gets the phases of the build.

    What the process and TensorRT say is kept in the engine's log, if they say anything, whatever comes of it. Raises
    InputError for a request that cannot be carried out, and CheckFailed, with the last error and the log's path, if
    the build fails or its process is ended.
    """
    log = log_path(request.engine)
    with scratch_folder(request.engine) as folder:
        status, failure = run_worker((*worker, str(folder)), request, log, report)
    if status == 0:
        return Sidecar.read(request.engine)
    if status == 2 and failure:
        raise InputError(failure)
    if status < 0:
        failure = f"the process that builds {request.engine} was ended by {ending(-status)}; its last word was: " + (
            last_error(log) or "nothing"
        )
    kept = f"; its log is {log}" if log.exists() else ""
    raise CheckFailed(f"{failure or last_error(log) or 'the build failed'}{kept}")


def run_worker(
    command: Sequence[str], request: BuildRequest, log: Path, report: Callable[[list[Phase]], None]
) -> tuple[int, str]:
    """Run the process that builds; its exit status, and what it said of its failure."""
    pipe = subprocess.PIPE
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    failure = ""
    with (
        new_log(log) as stream,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stream, text=True, env=environment) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with suppress(BrokenPipeError):  # it ended before it read its request
                process.stdin.write(request.to_json())
                process.stdin.close()
            for line in process.stdout:
                if not line.endswith("\n"):  # it was ended while it wrote this
                    break
                message: dict[str, Any] = json.loads(line)
                failure = message.get("error", failure)
                if "phases" in message:
                    report([Phase(**phase) for phase in message["phases"]])
        except BaseException:
            process.kill()
            raise
    return process.returncode, failure


@contextmanager
def new_log(path: Path) -> Iterator[BinaryIO]:
    """A file that is written as it goes, and gone at the end of the block if nothing was."""
    try:
        stream = path.open("wb")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose a writable output") from error
    try:
        with stream:
            yield stream
    finally:
        if not path.stat().st_size:
            path.unlink()


def ending(number: int) -> str:
    """A signal's name, and what it mostly means."""
    name = signal.Signals(number).name
    return f"{name}, perhaps for want of memory" if number == signal.SIGKILL else name


def last_error(log: Path) -> str:
    """The last error that TensorRT wrote to a log, or else the last line; empty if there is none."""
    if not log.exists():
        return ""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line.partition("] ")[2] for line in lines if line.startswith(ERROR_MARKS)]
    return (errors or lines or [""])[-1]
