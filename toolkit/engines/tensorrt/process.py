"""Building an engine in a process of its own: its progress, its log, and how it can end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from toolkit.claims import unguarded_file
from toolkit.engines.tensorrt.progress import Phase
from toolkit.engines.tensorrt.request import BuildRequest
from toolkit.engines.tensorrt.sidecar import Sidecar, log_path
from toolkit.errors import CheckFailed, InputError
from toolkit.outputs import new_file, scratch_folder
from toolkit.remains import remove_remains

WORKER = (sys.executable, "-m", "toolkit.engines.tensorrt.worker")
"""Its arguments are a folder to work in, and the number of this process, with which it ends."""
LOG = "log"
BUILD = "uniad-toolkit-build"
ERROR_MARKS = ("[ERROR]", "[INTERNAL_ERROR]")


def run_build(request: BuildRequest, report: Callable[[list[Phase]], None], worker: Sequence[str] = WORKER) -> Sidecar:
    """Build the engine of a request; its sidecar, written like the engine. `report` gets the phases of the build.

    What the process and TensorRT say is kept in the engine's log, if they say anything, unless the build is stopped.
    Raises InputError for a request that cannot be carried out, and CheckFailed, with the last error and the log's path,
    if the build fails or its process is ended.
    """
    log = log_path(request.engine)
    begun = [unguarded_file(path) for path in (log, *request.outputs())]
    try:
        with scratch_folder(request.engine) as folder, scratch_folder(Path(tempfile.gettempdir()) / BUILD) as temporary:
            command = (*worker, str(folder), str(os.getpid()))
            status, failure = run_worker(command, request, folder / LOG, temporary, report)
            keep_log(folder / LOG, log)
    finally:  # the process may have been killed
        for output in begun:
            remove_remains(output.path, output.suffix)
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
    command: Sequence[str], request: BuildRequest, log: Path, temporary: Path, report: Callable[[list[Phase]], None]
) -> tuple[int, str]:
    """Run the process that builds; its exit status, and what it said of its failure.

    `temporary` is for temporary files that it cannot remove when it is killed.
    """
    pipe = subprocess.PIPE
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(temporary)}
    failure = ""
    with (
        log.open("wb") as stream,
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


def keep_log(written: Path, log: Path) -> None:
    """Give a log its name, in place of an earlier one; there is none if nothing was said."""
    if written.stat().st_size:
        with new_file(log) as work:
            written.rename(work)
    else:
        log.unlink(missing_ok=True)


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
