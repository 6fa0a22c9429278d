"""The standard streams, when nobody reads them any more or their disk is full."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputLost(BaseException):
    """The standard output takes nothing more.

    No OSError, so that it is not mistaken for one about the file that is being written meanwhile.
    """

    def __init__(self, cause: OSError) -> None:
        self.reader_left = cause.errno == errno.EPIPE
        super().__init__(
            f"the standard output cannot be written: {cause.strerror}; free space, or send it somewhere else"
        )


class GuardedFile(io.FileIO):
    """The file of a stream that calls `lost` when it takes nothing more; what comes after that is dropped."""

    def __init__(self, descriptor: int, lost: Callable[[OSError], None]) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._lost = lost

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            self._lost(error)
        return super().write(data)


def guard_streams() -> None:
    """Have `sys.stdout` raise OutputLost when it cannot be written, and `sys.stderr` keep silent."""

    def lose(error: OSError) -> None:
        raise OutputLost(error) from error

    keep_descriptors()
    sys.stdout = guarded(sys.stdout, lose)
    sys.stderr = guarded(sys.stderr)


def keep_descriptors() -> None:
    """Open what was closed of the first three descriptors, so that no other file gets them and what is printed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def guarded(stream: TextIO | None, lost: Callable[[OSError], None] = lambda error: None) -> TextIO | None:
    """The stream anew over a guarded file, silent by default; None, Python's name for a closed one, stays None.

    What its encoding lacks is written as an escape.
    """
    if stream is None:
        return None
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(GuardedFile(stream.fileno(), lost)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=bool(stream.line_buffering),
    )
