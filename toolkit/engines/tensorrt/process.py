"""Building an engine in a process of its own: its progress, its log, and how it can end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from toolkit.engines.tensorrt.progress import Phase
from toolkit.engines.tensorrt.request import ENGINE, BuildRequest
from toolkit.engines.tensorrt.sidecar import Sidecar, log_path, sidecar_path
from toolkit.errors import CheckFailed, InputError
from toolkit.storage.claims import FileOutput, unguarded_file
from toolkit.storage.outputs import new_files, scratch_folder, temporary_folder
from toolkit.storage.remains import remove_remains

WORKER = (sys.executable, "-m", "toolkit.engines.tensorrt.worker")
"""Its arguments are a folder to work in, and the number of this process, with which it ends."""
LOG = "log"
ERROR_MARKS = ("[ERROR]", "[INTERNAL_ERROR]")


def run_build(request: BuildRequest, report: Callable[[list[Phase]], None], worker: Sequence[str] = WORKER) -> Sidecar:
    """Build the engine of a request; its sidecar, written like the engine. `report` gets the phases of the build.

    What the process and TensorRT say is kept in the engine's log, if they say anything, unless the build is stopped.
    Raises InputError for a request that cannot be carried out, and CheckFailed, with the last error and the log's path,
    if the build fails or its process is ended.
    """
    log = log_path(request.engine)
    kept_log, engine, sidecar, *_ = begun = [unguarded_file(path) for path in (log, *request.outputs())]
    try:
        with scratch_folder(engine.path) as folder, temporary_folder("build") as temporary:
            command = (*worker, str(folder), str(os.getpid()))
            status, failure = run_worker(command, request, folder / LOG, temporary, report)
            said = last_error(folder / LOG)
            made = {folder / LOG: kept_log} if said else {}
            if status == 0:
                made |= {folder / ENGINE: engine, sidecar_path(folder / ENGINE): sidecar}
            place(made)
    finally:  # the process may have been killed
        for output in begun:
            remove_remains(output.path, output.suffix)
    if status == 0:
        if not said:
            log.unlink(missing_ok=True)  # that of an earlier engine
        return Sidecar.read(request.engine)
    if status == 2 and failure:
        raise InputError(failure)
    if status < 0:
        word = said or "nothing"
        failure = f"the process that builds {request.engine} was ended by {ending(-status)}; its last word was: {word}"
    kept = f"; its log is {log}" if said else ""
    raise CheckFailed(f"{failure or said or 'the build failed'}{kept}")


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


def place(made: Mapping[Path, FileOutput]) -> None:
    """Give the files that were made, if any, their names, all at once."""
    if made:
        with new_files(*made.values()) as works:
            for path, work in zip(made, works, strict=True):
                path.rename(work)


def ending(number: int) -> str:
    """A signal's name, and what it mostly means."""
    name = signal.Signals(number).name
    return f"{name}, perhaps for want of memory" if number == signal.SIGKILL else name


def last_error(log: Path) -> str:
    """The last error that TensorRT wrote to a log, or else the last line; empty if there is none."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line.partition("] ")[2] for line in lines if line.startswith(ERROR_MARKS)]
    return (errors or lines or [""])[-1]
