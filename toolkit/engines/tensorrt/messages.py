"""What TensorRT says: its log, and the errors it records."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, TextIO

from toolkit.ops.tensorrt_plugin import with_bases
from toolkit.text import LONGEST_LINE, shown

if TYPE_CHECKING:
    import tensorrt

MAX_ERRORS = 100


def new_logger(trt: ModuleType, stream: TextIO | None = None) -> Any:
    """A logger that keeps the last error and writes every message but the verbose ones to a stream, if given one."""
    return with_bases(MessageLog, trt.ILogger)(trt, stream)


def new_recorder(trt: ModuleType) -> Any:
    """An error recorder, to be set on a runtime or an execution context."""
    return with_bases(ErrorList, trt.IErrorRecorder)()


class MessageLog:
    """Writes one line for each message, with its severity; `ILogger`."""

    def __init__(self, trt: ModuleType, stream: TextIO | None) -> None:
        self._severity = trt.ILogger.Severity
        self._stream = stream
        self.last_error = ""

    def log(self, severity: tensorrt.ILogger.Severity, msg: str) -> None:
        """Keep an error, and write the message."""
        text = shown(" ".join(msg.split()), LONGEST_LINE)
        if severity in (self._severity.ERROR, self._severity.INTERNAL_ERROR):
            self.last_error = text
        if self._stream is not None and severity != self._severity.VERBOSE:
            print(f"[{severity.name}] {text}", file=self._stream, flush=True)


class ErrorList:
    """Keeps the errors of TensorRT's objects in order; `IErrorRecorder`."""

    def __init__(self) -> None:
        self._errors: list[tuple[Any, str]] = []
        self._overflowed = False

    @property
    def last(self) -> str:
        """The last error in one line; empty if there is none."""
        return shown(" ".join(self._errors[-1][1].split()), LONGEST_LINE) if self._errors else ""

    def num_errors(self) -> int:
        return len(self._errors)

    def get_error_code(self, arg0: int) -> Any:
        return self._errors[arg0][0]

    def get_error_desc(self, arg0: int) -> str:
        return self._errors[arg0][1]

    def has_overflowed(self) -> bool:
        return self._overflowed

    def clear(self) -> None:
        self._errors.clear()
        self._overflowed = False

    def report_error(self, arg0: Any, arg1: str) -> bool:
        """Keep an error; the call that met it ends and returns a failure."""
        self._overflowed = len(self._errors) >= MAX_ERRORS
        if not self._overflowed:
            self._errors.append((arg0, arg1))
        return True
