"""How long a frame spends in each stage of its way from the camera's file to the results' files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=str)


class Stage(StrEnum):
    """In the order in which a frame goes through them."""

    LOAD = "load and decode"
    PREPROCESS = "preprocess"
    NETWORK = "network"
    POSTPROCESS = "post-process"
    WRITE = "write"
    DRAW = "draw"


class StageClock(Generic[Name]):
    """Attributes all time that passes to stages: a lap ends a stage, and the next one begins."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._seconds: dict[Name, float] = {}

    def lap(self, stage: Name) -> None:
        """Everything since the last lap was this stage."""
        now = time.perf_counter()
        self.add(stage, now - self._last)
        self._last = now

    def add(self, stage: Name, seconds: float) -> None:
        """A stage took so long elsewhere, beside what the clock measures."""
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def give(self, seconds: Mapping[Name, float]) -> None:
        """Add what `take` took."""
        for stage, passed in seconds.items():
            self.add(stage, passed)

    def skip(self) -> None:
        """What passed since the last lap belongs to no stage."""
        self._last = time.perf_counter()

    def take(self) -> dict[Name, float]:
        """Seconds by stage since the last call; the next frame begins."""
        seconds, self._seconds = self._seconds, {}
        return seconds
