"""Watches on what `run_sequence` uses, so that a benchmark measures the very code that `run` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.data.frames import Frame
from toolkit.data.pictures import PictureMemory
from toolkit.data.preprocess import MAX_JPEG_BYTES
from toolkit.data.stage_clock import StageClock
from toolkit.engines.session import PictureSession, Session
from toolkit.storage.regular_file import read_regular

Result = TypeVar("Result")


class Part(StrEnum):
    """Parts of stages."""

    READ = "read files"
    UPLOAD = "upload"
    PREPARE = "preprocess on the GPU"
    MODEL = "model"
    CHECK = "check state"
    DOWNLOAD = "download"


def gpu_wait() -> Callable[[], None]:
    """Waits until all work given to the GPU is done, if torch can use one: a launch alone says nothing."""
    return torch.cuda.synchronize if torch.cuda.is_available() else lambda: None


class TimedSession:
    """A session of which `clock` measures the parts, each until the GPU has done it."""

    def __init__(self, session: Session, clock: StageClock[str]) -> None:
        self.name = session.name
        self._session, self._clock, self._wait = session, clock, gpu_wait()

    def upload(self, array: np.ndarray) -> Any:
        return self._timed(Part.UPLOAD, lambda: self._session.upload(array))

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return self._timed(Part.MODEL, lambda: self._session.run(inputs))

    def download(self, tensor: Any) -> np.ndarray:
        return self._timed(Part.DOWNLOAD, lambda: self._session.download(tensor), wait=False)

    def finite(self, tensors: Iterable[Any]) -> bool:
        return self._timed(Part.CHECK, lambda: self._session.finite(tensors), wait=False)

    def _timed(self, part: Part, work: Callable[[], Result], *, wait: bool = True) -> Result:
        """Without `wait`, for work whose result lies on the host, so that the GPU has done it."""
        self._clock.skip()
        result = work()
        if wait:
            self._wait()
        self._clock.lap(part)
        return result


class TimedPictureSession(TimedSession):
    """Uploads pictures only when the whole frame is uploaded, so that all of it is measured there."""

    def __init__(self, session: PictureSession, clock: StageClock[str]) -> None:
        super().__init__(session, clock)
        self._preparing = session

    def new_pictures(self) -> PictureMemory:
        return UnreportedPictures(self._preparing.new_pictures().array)

    def upload_frame(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return self._timed(Part.UPLOAD, lambda: self._preparing.upload_frame(arrays))

    def prepare(self, pictures: Any) -> Any:
        return self._timed(Part.PREPARE, lambda: self._preparing.prepare(pictures))

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self._timed(Part.UPLOAD, lambda: self._preparing.zeros(shape, dtype))


@dataclass(frozen=True, eq=False)
class UnreportedPictures:
    """Picture memory of a session that is not told which of them are there."""

    array: NDArray[np.uint8]

    def filled(self, camera: int) -> None:
        """Nothing begins yet."""


def timed(session: Session, clock: StageClock[str]) -> TimedSession:
    """The session, measured by `clock`."""
    return TimedPictureSession(session, clock) if isinstance(session, PictureSession) else TimedSession(session, clock)


def timed_frames(frames: Iterable[Frame], clock: StageClock[str]) -> Iterator[Frame]:
    """The frames, whose files are read once before they are decoded, so that they come from memory then."""
    for frame in frames:
        clock.skip()
        for view in frame.cameras.values():
            if isinstance(view.image, Path):
                with suppress(OSError):  # what is amiss, decoding tells
                    read_regular(view.image, MAX_JPEG_BYTES)
        clock.lap(Part.READ)
        yield frame
