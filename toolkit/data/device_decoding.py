"""Pictures that a device decodes: all of a frame together, from the bytes of their files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ImageConfig
from toolkit.data.frames import Frame
from toolkit.data.jpeg import jpeg_size
from toolkit.data.pictures import PictureMemory
from toolkit.data.preprocess import jpeg_bytes, require_size
from toolkit.errors import InputError
from toolkit.text import one_line


class DeviceDecoder(Protocol):
    """Decodes JPEG files on a device; threads may share it."""

    def decode(self, files: Sequence[bytes]) -> Any:
        """RGB [files, height, width, 3] of uint8 where the device has it, of files of one size.

        Raises RuntimeError for what it cannot decode.
        """

    def on_host(self, pictures: Any) -> NDArray[np.uint8]:
        """The same as an array, which the caller may keep."""


Keep = Callable[[Any], PictureMemory]
"""Takes what a `DeviceDecoder` gave as the pictures of a frame, without bringing them to the host."""


@dataclass(frozen=True, eq=False)
class DeviceDecoding:
    """Has pictures decoded by a device; a session on it may `keep` them there, else they come to the host."""

    decoder: DeviceDecoder
    keep: Keep | None = None


@dataclass(frozen=True, eq=False)
class DevicePictures:
    """The pictures of a frame, on the device, decoded between two readings of the clock."""

    pictures: Any
    begun: float
    done: float


def decoded_on_device(frame: Frame, config: ImageConfig, decoder: DeviceDecoder) -> DevicePictures:
    """The pictures of the model's cameras, as far as the frame has them.

    Raises InputError for a file that cannot be read or decoded, or is of another size than the config's.
    """
    begun = time.perf_counter()
    paths = [image for image in images_of(frame, config) if isinstance(image, Path)]
    files = [jpeg_bytes(path) for path in paths]
    for path, file in zip(paths, files, strict=True):
        require_size(path, (*jpeg_size(file), 3), np.dtype(np.uint8), config)
    try:
        pictures = decoder.decode(files)
    except RuntimeError as error:
        raise _undecoded(paths, files, decoder, error) from error
    return DevicePictures(pictures, begun, time.perf_counter())


def images_of(frame: Frame, config: ImageConfig) -> list[Path | NDArray[np.uint8]]:
    """Those of the model's cameras that the frame has, in the order of the config."""
    return [frame.cameras[name].image for name in config.cameras if name in frame.cameras]


def brought_to_host(frame: Frame, config: ImageConfig, pictures: NDArray[np.uint8]) -> Frame:
    """The frame with arrays in place of its files; `pictures` are those of `images_of`."""
    known = [name for name in config.cameras if name in frame.cameras]
    views = {name: replace(frame.cameras[name], image=each) for name, each in zip(known, pictures, strict=True)}
    return replace(frame, cameras={**frame.cameras, **views})


def _undecoded(
    paths: Sequence[Path], files: Sequence[bytes], decoder: DeviceDecoder, error: RuntimeError
) -> InputError:
    """Names the file that the decoder refuses alone, if one can be told."""
    for path, file in zip(paths, files, strict=True):
        try:
            decoder.decode([file])
        except RuntimeError as own:
            return InputError(f"{path}: the device cannot decode it ({one_line(own)}); use --decoder opencv")
    return InputError(f"the device cannot decode its pictures ({one_line(error)}); use --decoder opencv")
