"""Watches on what `run_sequence` uses, so that a benchmark measures the very code that `run` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from toolkit.data.frames import Frame
from toolkit.engines.session import Session
from toolkit.stage_clock import StageClock

Result = TypeVar("Result")


class Part(StrEnum):
    """Parts of stages."""

    READ = "read files"
    UPLOAD = "upload"
    MODEL = "model"
    CHECK = "check state"
    DOWNLOAD = "download"


def wait_for_gpu() -> None:
    """Until all work given to the GPU is done, if there is one that torch can use: a launch alone says nothing."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class TimedSession:
    """A session of which `clock` measures the parts, each until the GPU has done it."""

    def __init__(self, session: Session, clock: StageClock[str]) -> None:
        self.name = session.name
        self._session, self._clock = session, clock

    def upload(self, array: np.ndarray) -> Any:
        return self._timed(Part.UPLOAD, lambda: self._session.upload(array))

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return self._timed(Part.MODEL, lambda: self._session.run(inputs))

    def download(self, tensor: Any) -> np.ndarray:
        return self._timed(Part.DOWNLOAD, lambda: self._session.download(tensor))

    def finite(self, tensors: Iterable[Any]) -> bool:
        return self._timed(Part.CHECK, lambda: self._session.finite(tensors))

    def _timed(self, part: Part, work: Callable[[], Result]) -> Result:
        self._clock.skip()
        result = work()
        wait_for_gpu()
        self._clock.lap(part)
        return result


def timed_frames(frames: Iterable[Frame], clock: StageClock[str]) -> Iterator[Frame]:
    """The frames, whose files are read once before they are decoded, so that they come from memory then."""
    for frame in frames:
        clock.skip()
        for view in frame.cameras.values():
            if isinstance(view.image, Path) and view.image.is_file():  # what is amiss, decoding tells
                view.image.read_bytes()
        clock.lap(Part.READ)
        yield frame
