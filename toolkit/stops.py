"""Stops: Ctrl-C, SIGTERM and a closed terminal end a command in order, and its child processes with it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REMINDER = signal.SIGALRM
REMINDER_SECONDS = 0.5
STANDARD_ERROR = 2
PR_SET_PDEATHSIG = 1


class Stop:
    """The signal that asked for the end: `number`, or 0 as long as none did.

    No dataclass, for importing those takes time in which a stop would find nobody prepared.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number

    @property
    def status(self) -> int:
        """What shells make of a process that the signal ended."""
        return 128 + self.number


@contextmanager
def stops_interrupt() -> Iterator[Stop]:
    """Within the block a stop raises KeyboardInterrupt in the main thread, so that every `finally` is run.

    What then leaves the block, an interrupt or an error that came of it, ends there, and no error is shown any more.
    Some places lose an exception that comes out of nowhere, such as a `__del__` or an import in C: it is raised again
    until somebody handles it. While a library in C is being loaded it waits: one in C++ would abort the process, for it
    cannot do with an exception of Python. After the block a stop ends the process at once, for there is nothing left to
    tidy up.

    A signal that is ignored when the block begins, as under nohup, stays ignored.
    """
    stop, over = Stop(), False

    def interrupt(number: int, frame: FrameType | None) -> None:
        if over:
            os._exit(Stop(stop.number or number).status)
        if number != REMINDER and not stop.number:
            stop.number = number
            os.dup2(os.open(os.devnull, os.O_WRONLY), STANDARD_ERROR)
            signal.setitimer(signal.ITIMER_REAL, REMINDER_SECONDS, REMINDER_SECONDS)
        if not is_interrupted(sys.exc_info()[1]) and not loads_extension(frame):
            raise KeyboardInterrupt

    for number in (REMINDER, *STOPS):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield stop
    except BaseException:
        if not stop.number:
            raise
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)


def is_interrupted(error: BaseException | None) -> bool:
    """Whether the error that is being handled is an interrupt, or came up while one was handled."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def loads_extension(frame: FrameType | None) -> bool:
    """Whether the frame was called, by however many others, by a library in C that is just being loaded."""
    while frame is not None:
        if frame.f_code.co_name in ("create_module", "exec_module"):
            loader = frame.f_locals.get("self")
            if type(loader).__name__ == "ExtensionFileLoader":
                return True
        frame = frame.f_back
    return False


@contextmanager
def stops_held() -> Iterator[None]:
    """A stop that comes within the block takes effect at its end: for steps that belong together."""
    if threading.current_thread() is not threading.main_thread():  # no signal interrupts it
        yield
        return
    held: list[int] = []
    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in (*STOPS, REMINDER)}
    for number in before:
        signal.signal(number, lambda number, _: held.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


@contextmanager
def stops_blocked() -> Iterator[None]:
    """A stop that comes within the block takes effect at its end, in a library as well that handles the signals itself.

    NVRTC does while it reads a source, and ends the process at once. It holds for this thread and those that are
    started within the block; others still get the signals.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent(parent: int) -> None:
    """Have Linux kill this process when its parent, the process of this number, ends, however that ends."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)
