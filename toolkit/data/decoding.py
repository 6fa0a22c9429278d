"""Pictures of frames, decoded when their turn comes, or ahead of it by threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ImageConfig
from toolkit.data.device_decoding import (
    DeviceDecoding,
    DevicePictures,
    brought_to_host,
    decoded_on_device,
    images_of,
)
from toolkit.data.frames import Frame
from toolkit.data.pictures import PictureMemory
from toolkit.data.preprocess import load_image
from toolkit.errors import inside
from toolkit.stops import stops_held

Loaded = TypeVar("Loaded")
LoadedLater = TypeVar("LoadedLater", covariant=True)
NewPictures = Callable[[], PictureMemory]
"""Makes memory for the pictures of a frame."""


@dataclass(frozen=True, eq=False)
class DecodedFrame:
    """A frame whose pictures of the model's cameras are arrays, in `memory` if there is any.

    `seconds` passed from the beginning of its first picture to the end of its last one.
    """

    frame: Frame
    memory: PictureMemory | None
    seconds: float


def decoded_frames(
    frames: Iterable[Frame],
    config: ImageConfig,
    pictures: NewPictures | None = None,
    threads: int = 0,
    device: DeviceDecoding | None = None,
) -> Generator[DecodedFrame]:
    """Every frame in its turn with its pictures as arrays, in memory that `pictures` makes, if given.

    With `device` files are decoded there, and may stay there; `seconds` are the host's then.
    Without `threads` a frame is decoded when it is asked for. Those decode a few frames ahead, as many as keep them at
    work. Memory is made, and told of its pictures, by the caller's thread alone. Raises InputError, with the frame's
    name, in the turn of a frame whose pictures cannot be used, and not before.
    """
    if not threads:
        for frame in frames:
            yield _begun(frame, config, pictures, device, _WhenAskedFor).finished()
        return
    pool = ThreadPoolExecutor(threads, "decode")
    ahead: deque[_Begun] = deque()
    try:
        for frame in frames:
            ahead.append(_begun(frame, config, pictures, device, pool.submit))
            if len(ahead) > frames_ahead(threads, config):
                yield ahead.popleft().finished()
        while ahead:
            yield ahead.popleft().finished()
    finally:
        with stops_held():
            pool.shutdown(cancel_futures=True)


def frames_ahead(threads: int, config: ImageConfig) -> int:
    """How many frames are begun before their turn: the next one, and pictures for all threads."""
    return 1 + -(-threads // len(config.cameras))


@dataclass(frozen=True, eq=False)
class _Picture:
    """Decoded between two readings of the clock."""

    pixels: NDArray[np.uint8]
    begun: float
    done: float


class _Pending(Protocol[LoadedLater]):
    """Something that is being loaded: a future, or what waits like one."""

    def done(self) -> bool:
        """Whether it is there."""

    def result(self) -> LoadedLater:
        """What was loaded, when it is there. Raises what went wrong."""


@dataclass(frozen=True, eq=False)
class _WhenAskedFor(_Pending[Loaded]):
    """Loaded when it is waited for."""

    load: Callable[[], Loaded]

    def done(self) -> bool:
        return False

    def result(self) -> Loaded:
        return self.load()


@dataclass(frozen=True, eq=False)
class _BegunFrame:
    """`pictures` gives each of the model's cameras, by its number, when it is there."""

    frame: Frame
    config: ImageConfig
    memory: PictureMemory | None
    pictures: Mapping[int, _Pending[_Picture]]

    @classmethod
    def of(cls, frame: Frame, config: ImageConfig, pictures: NewPictures | None, begin: _Begin) -> _BegunFrame:
        memory = None if pictures is None else pictures()

        def load(camera: int) -> _Picture:
            begun = time.perf_counter()
            place = None if memory is None else memory.array[camera]
            pixels = load_image(frame.cameras[config.cameras[camera]].image, config, place)
            return _Picture(pixels, begun, time.perf_counter())

        known = (camera for camera, name in enumerate(config.cameras) if name in frame.cameras)
        return cls(frame, config, memory, {camera: begin(partial(load, camera)) for camera in known})

    def finished(self) -> DecodedFrame:
        """Wait for the pictures; the memory is told of each that is there, in the order of the cameras.

        If all are there already, it is told of none: the session takes them together.
        """
        views, moments = dict(self.frame.cameras), []
        whole = all(pending.done() for pending in self.pictures.values())
        for camera, pending in self.pictures.items():
            with inside(f"frame {self.frame.name}"):
                picture = pending.result()
            name = self.config.cameras[camera]
            views[name] = replace(views[name], image=picture.pixels)
            moments += [picture.begun, picture.done]
            if self.memory is not None and not whole:
                self.memory.filled(camera)
        seconds = max(moments, default=0.0) - min(moments, default=0.0)
        return DecodedFrame(replace(self.frame, cameras=views), self.memory, seconds)


@dataclass(frozen=True, eq=False)
class _BegunOnDevice:
    """All pictures come together."""

    frame: Frame
    config: ImageConfig
    memory: NewPictures | None
    device: DeviceDecoding
    pictures: _Pending[DevicePictures]

    def finished(self) -> DecodedFrame:
        """Wait for the pictures, which stay where they are if the session takes them there."""
        with inside(f"frame {self.frame.name}"):
            loaded = self.pictures.result()
        if self.device.keep is not None:
            memory = self.device.keep(loaded.pictures)
            return DecodedFrame(self.frame, memory, loaded.done - loaded.begun)
        frame = brought_to_host(self.frame, self.config, self.device.decoder.on_host(loaded.pictures))
        finished = _BegunFrame.of(frame, self.config, self.memory, _WhenAskedFor).finished()
        return replace(finished, seconds=finished.seconds + loaded.done - loaded.begun)


_Begun = _BegunFrame | _BegunOnDevice


class _Begin(Protocol):
    """Begins to load something, or is ready to."""

    def __call__(self, load: Callable[[], Loaded], /) -> _Pending[Loaded]: ...


def _begun(
    frame: Frame, config: ImageConfig, pictures: NewPictures | None, device: DeviceDecoding | None, begin: _Begin
) -> _Begun:
    """A frame whose pictures are being decoded. Those that are arrays already need no device."""
    if device is None or any(not isinstance(image, Path) for image in images_of(frame, config)):
        return _BegunFrame.of(frame, config, pictures, begin)
    decoded = begin(partial(decoded_on_device, frame, config, device.decoder))
    return _BegunOnDevice(frame, config, pictures, device, decoded)
