"""A session whose recorded outputs are there after a set time, as a GPU's are: for all that is beside the network."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.benchmarking.timed import UnreportedPictures
from toolkit.bundle import Bundle
from toolkit.data.frames import Frame
from toolkit.data.pictures import PICTURES, pictures_spec
from toolkit.data.sequence import sequence_inputs
from toolkit.engines.session import Session
from toolkit.runtime.temporal_runner import TemporalRunner

Outputs = dict[str, NDArray[Any]]


def recorded(bundle: Bundle, session: Session, frames: Iterable[Frame], count: int) -> list[Outputs]:
    """All outputs of a session in each of the first frames."""
    names = [spec.name for spec in bundle.results]
    runner = TemporalRunner(bundle, session)
    return [runner.step(inputs, names) for _, inputs in islice(sequence_inputs(frames, bundle.config), count)]


class ReplayedSession:
    """Takes pictures as they are and gives the recorded outputs in turn, each `seconds` after it was asked for."""

    name = "replayed"

    def __init__(self, bundle: Bundle, outputs: Sequence[Outputs], seconds: float) -> None:
        self._shape = pictures_spec(bundle.config.image).resolve(bundle.config.dimensions())
        self._outputs: Iterator[Outputs] = cycle(outputs)
        self._seconds = seconds
        self._there = 0.0

    def new_pictures(self) -> UnreportedPictures:
        return UnreportedPictures(np.empty(self._shape, np.uint8))

    def upload(self, array: np.ndarray) -> np.ndarray:
        return array

    def upload_frame(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert PICTURES in arrays
        return dict(arrays)

    def prepare(self, pictures: np.ndarray) -> np.ndarray:
        return pictures

    def zeros(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return np.zeros(shape, dtype)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Outputs:
        self._there = time.perf_counter() + self._seconds
        return dict(next(self._outputs))

    def download(self, tensor: np.ndarray) -> np.ndarray:
        time.sleep(max(0.0, self._there - time.perf_counter()))
        return tensor

    def finite(self, tensors: Iterable[np.ndarray]) -> bool:
        return True
