"""Calls on data of unknown origin in a process of its own, so that neither time nor memory runs out.

It is no jail: the process may do what its user may. It bounds what a call takes, and survives its crash.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from toolkit.bounded.limits import CallFailed, LimitExceeded, Limits
from toolkit.bounded.transport import receive, send
from toolkit.bounded.worker import OUT_OF_MEMORY

P = ParamSpec("P")
T = TypeVar("T")


class BoundedProcess:
    """Calls functions in another process, one after the other; a call that exceeds the limits is ended.

    The process starts with the first call, and anew with the next one after it was ended. It ends with the block, or
    with this process, however that ends.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._running: tuple[subprocess.Popen[bytes], Connection] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def call(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """What a function of a module makes of arguments that pickle.

        Raises LimitExceeded if it takes too much or its process dies, and CallFailed if it raises an exception.
        """
        process, connection = self._running = self._running or self._start()
        try:
            send(connection, (function, arguments, keywords))
            if not connection.poll(self.limits.seconds):
                self._end()
                raise LimitExceeded(f"did not end within {self.limits.seconds:.3g} s")
            failure, value = receive(connection)
        except (EOFError, OSError):
            status = process.wait()
            self._end()
            raise LimitExceeded(self._ending(status)) from None
        if failure:
            raise CallFailed(failure)
        result: T = value
        return result

    def _start(self) -> tuple[subprocess.Popen[bytes], Connection]:
        ours, theirs = Pipe()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(
            (sys.executable, "-P", "-m", "toolkit.bounded.worker", str(theirs.fileno()), str(self.limits.bytes)),
            stdin=subprocess.PIPE,  # its end tells the process that this one is gone
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # what C++ says before it aborts
            pass_fds=[theirs.fileno()],
            env=environment,
        )
        theirs.close()
        return process, ours

    def _end(self) -> None:
        if self._running is not None:
            process, connection = self._running
            self._running = None
            connection.close()
            process.kill()
            process.communicate()

    def _ending(self, status: int) -> str:
        memory = f"{self.limits.bytes / 1e9:.3g} GB of memory"
        if status == OUT_OF_MEMORY:
            return f"needs more than {memory}"
        if status < 0:
            return f"was ended by {signal.Signals(-status).name}, perhaps for want of more than {memory}"
        return f"ended with status {status}"
