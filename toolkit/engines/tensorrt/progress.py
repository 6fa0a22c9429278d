"""How far a build is, as TensorRT tells it while it works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

STEP_SECONDS = 0.1
"""Steps are reported no more often than that; some phases have thousands."""


@dataclass(frozen=True)
class Phase:
    """A phase of a build; phases are nested."""

    name: str
    done: int
    steps: int


class BuildMonitor:
    """Keeps the nested phases of a build and reports them, outermost first; `IProgressMonitor`.

    TensorRT calls it from several threads.
    """

    def __init__(self, report: Callable[[list[Phase]], None]) -> None:
        self._report = report
        self._phases: dict[str, Phase] = {}
        self._lock = threading.Lock()
        self._reported = 0.0

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """A phase begins, within another one or on its own."""
        with self._lock:
            self._phases[phase_name] = Phase(phase_name, 0, num_steps)
            self._tell()

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Step `step`, counted from 0, of a phase is done. The build goes on."""
        with self._lock:
            if phase_name in self._phases:
                self._phases[phase_name] = Phase(phase_name, step + 1, self._phases[phase_name].steps)
            if time.monotonic() - self._reported >= STEP_SECONDS:
                self._tell()
        return True

    def phase_finish(self, phase_name: str) -> None:
        """A phase ends, all of its steps done or not."""
        with self._lock:
            self._phases.pop(phase_name, None)
            self._tell()

    def _tell(self) -> None:
        self._reported = time.monotonic()
        self._report(list(self._phases.values()))
