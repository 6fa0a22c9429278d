"""What every session offers: one frame in named tensors, in its own array type, so that state need not leave it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from toolkit.data.pictures import PictureMemory


class Session(Protocol):
    """Runs one frame of a converted network.

    `run` takes and returns tensors of the session's own kind (numpy arrays, device tensors …) by name. Results may be
    fed back as state without a copy; `upload` and `download` convert from and to numpy. `finite` looks at tensors where
    they are.
    """

    name: str

    def upload(self, array: np.ndarray) -> Any:
        """A numpy array as a tensor of this session."""

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of one frame."""

    def download(self, tensor: Any) -> np.ndarray:
        """A tensor of this session as a numpy array."""

    def finite(self, tensors: Iterable[Any]) -> bool:
        """Whether these tensors hold neither NaN nor infinity."""


@runtime_checkable
class SharedSession(Session, Protocol):
    """A session whose network can run for several scenes at once."""

    def beside(self, count: int) -> Sequence[Session]:
        """So many sessions with this one's network, each of which may be used by a thread of its own."""


@runtime_checkable
class PictureSession(Session, Protocol):
    """A session far from the host's memory: it takes a frame's inputs together, and camera pictures as they are.

    Its device works beside the host: `run` begins a frame, and whoever asks for its outputs waits for them. Pictures
    go `new_pictures` -> `upload_frame` -> `prepare` -> `run`.
    """

    def new_pictures(self) -> PictureMemory:
        """Memory for the pictures of the next frame."""

    def upload_frame(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """All inputs of a frame as tensors of this session."""

    def prepare(self, pictures: Any) -> Any:
        """Uploaded pictures as the frame input `image`."""

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A tensor of zeros, made where it is needed."""


@runtime_checkable
class DevicePictureSession(PictureSession, Protocol):
    """One whose device can decode pictures, which then never come to the host."""

    def make_ready(self) -> None:
        """Do what the first frame would have to wait for, and what the device cannot do while it decodes."""

    def device_pictures(self, pictures: Any) -> PictureMemory:
        """What a `toolkit.data.device_decoding.DeviceDecoder` gave as the pictures of a frame, as `new_pictures` are.

        Their `array` stands for them on the way to `upload_frame`, and holds no pixels.
        """
