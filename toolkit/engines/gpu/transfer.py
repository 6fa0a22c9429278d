"""Tensors between host and device: many in one copy, through page-locked memory, while other work goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from toolkit.ops.kernel import load_cupy

SMALL_BYTES = 2**18
"""Arrays up to this size are copied out of the memory that they came in: one that is kept must not keep all."""


class Place(NamedTuple):
    """A tensor among others: its bytes from `start` up to `stop`; `dtype` is its type's name in numpy and torch."""

    name: str
    start: int
    stop: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class ByteLayout:
    """Tensors as one run of bytes, those of a type together and of wider types first, so that each is aligned."""

    places: tuple[Place, ...]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor | np.ndarray]) -> ByteLayout:
        """For tensors of these types and shapes."""
        return _laid_out(tuple((name, tuple(t.shape), type_name(t.dtype), t.itemsize) for name, t in tensors.items()))

    @property
    def size(self) -> int:
        """In bytes."""
        return self.places[-1].stop if self.places else 0

    def pack(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The bytes of all: uint8 [size]."""
        return torch.cat([tensors[place.name].reshape(-1).view(torch.uint8) for place in self.places])

    def tensors(self, packed: Tensor) -> dict[str, Tensor]:
        """Views of bytes that are packed so."""
        views: dict[str, Tensor] = {}
        for run in self._runs:  # few operations, each of which takes the host as long as the copy of all
            typed = packed[run[0].start : run[-1].stop].view(getattr(torch, run[0].dtype))
            parts = typed.split([math.prod(place.shape) for place in run])
            views |= {
                place.name: part if len(place.shape) == 1 else part.view(place.shape)
                for place, part in zip(run, parts, strict=True)
            }
        return views

    @cached_property
    def _runs(self) -> tuple[tuple[Place, ...], ...]:
        """The places of each type."""
        return tuple(tuple(run) for _, run in groupby(self.places, key=lambda place: place.dtype))

    def arrays(self, packed: Tensor) -> dict[str, np.ndarray]:
        """Likewise, of bytes on the host, as arrays."""
        memory = packed.numpy()
        return {
            name: np.ndarray(shape, dtype, buffer=memory, offset=start) for name, start, _, shape, dtype in self.places
        }


@cache
def _laid_out(described: tuple[tuple[str, tuple[int, ...], str, int], ...]) -> ByteLayout:
    """For tensors of these names, shapes, types and bytes each: the same frame after frame."""
    places, stop = [], 0
    for name, shape, dtype, itemsize in sorted(described, key=lambda each: (-each[3], each[2])):
        start, stop = stop, stop + itemsize * math.prod(shape)
        places.append(Place(name, start, stop, shape, dtype))
    return ByteLayout(tuple(places))


@cache
def type_name(dtype: torch.dtype | np.dtype[Any]) -> str:
    """As numpy and torch have it."""
    return str(dtype).removeprefix("torch.")


def page_locked(size: tuple[int, ...]) -> Tensor:
    """Bytes on the host that a device can copy by itself. torch keeps such memory and gives it out again."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=torch.cuda.is_available())


@dataclass(frozen=True)
class RowBlocks:
    """Of each `every` rows of a picture the `count` from number `first` on. The height is a multiple of `every`."""

    first: int
    count: int
    every: int


ALL_ROWS = RowBlocks(first=0, count=1, every=1)


class Upload:
    """Copies to the device, large ones on a stream of their own, which work on the current stream waits for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.stream = torch.cuda.Stream(device)
        self._held: list[tuple[torch.cuda.Event, Tensor]] = []

    def together(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """The arrays on the device, in one copy, which the current stream makes itself if it is small."""
        layout = ByteLayout.of(arrays)
        packed = page_locked((layout.size,))
        for name, place in layout.arrays(packed).items():
            place[...] = arrays[name]
        if layout.size <= SMALL_BYTES:  # streams that wait for each other take the host longer
            return layout.tensors(packed.to(self._device, non_blocking=True))
        with torch.cuda.stream(self.stream):
            copied = packed.to(self._device, non_blocking=True)
        return layout.tensors(self.ready(copied))

    def pictures(self, shape: tuple[int, ...], rows: RowBlocks) -> PictureUpload:
        """Memory for pictures [cameras, height, width, 3] of uint8, of which the device needs these rows."""
        return PictureUpload(self, shape, rows, self._device)

    def copy_rows(self, host: Tensor, copied: Tensor, rows: RowBlocks) -> None:
        """Begin to copy these rows of pictures [..., height, width, 3] of uint8 from page-locked memory.

        CUDA copies rows with gaps between them at once; torch would gather them on the host first. What CUDA is asked
        for torch does not know of: see `ready`.
        """
        row = host.shape[-2] * host.shape[-1]
        start, pitch = rows.first * row, rows.every * row
        cuda = load_cupy().cuda
        with cuda.Device(self.stream.device_index):
            cuda.runtime.memcpy2DAsync(
                *(copied.data_ptr() + start, pitch, host.data_ptr() + start, pitch),
                *(rows.count * row, host.nbytes // pitch, cuda.runtime.memcpyHostToDevice, self.stream.cuda_stream),
            )

    def ready(self, copied: Tensor, memory: Tensor | None = None) -> Tensor:
        """What was copied on this stream, for use on the current one.

        The page-locked `memory` of `copy_rows` is kept until then: torch, which knows nothing of it, would give it out.
        """
        done, current = self.stream.record_event(), torch.cuda.current_stream(self._device)
        if memory is not None:
            self._held = [(event, held) for event, held in self._held if not event.query()]
            self._held.append((done, memory))
        current.wait_event(done)
        copied.record_stream(current)
        return copied


class PictureUpload:
    """Page-locked memory for the pictures of a frame (`toolkit.data.pictures.PictureMemory`).

    The copy of a picture begins when it is there, while the next one is being decoded.
    """

    def __init__(self, upload: Upload, shape: tuple[int, ...], rows: RowBlocks, device: torch.device) -> None:
        self._upload, self._rows = upload, rows
        self._host = page_locked(shape)
        self._waiting = set(range(shape[0]))
        self.array: np.ndarray = self._host.numpy()
        with torch.cuda.stream(upload.stream):
            self._copied = torch.empty(shape, dtype=torch.uint8, device=device)

    def filled(self, camera: int) -> None:
        self._waiting.discard(camera)
        self._upload.copy_rows(self._host[camera], self._copied[camera], self._rows)

    def tensor(self) -> Tensor:
        """All pictures on the device, for use on the current stream. Rows that it does not need have any values."""
        if len(self._waiting) == len(self._host):
            self._upload.copy_rows(self._host, self._copied, self._rows)
        else:
            for camera in sorted(self._waiting):
                self.filled(camera)
        self._waiting.clear()
        return self._upload.ready(self._copied, self._host)


class Download:
    """Tensors of a frame that leave the device together, in one copy, when the first of them is asked for."""

    def __init__(self, tensors: Mapping[str, Tensor], packed: Tensor) -> None:
        """`packed` is what `Layout.pack` made of the tensors, on the device."""
        self._tensors, self._packed = tensors, packed
        self._names = {id(tensor): name for name, tensor in tensors.items()}

    def __contains__(self, tensor: Tensor) -> bool:
        """Whether this very tensor is one of them."""
        return id(tensor) in self._names

    def __getitem__(self, tensor: Tensor) -> np.ndarray:
        """The tensor as an array. It remains valid."""
        return self.arrays[self._names[id(tensor)]]

    @property
    def done(self) -> bool:
        """Whether they have left."""
        return "arrays" in vars(self)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of them by name."""
        host = page_locked(tuple(self._packed.shape))
        host.copy_(self._packed, non_blocking=True)
        if self._packed.is_cuda:
            torch.cuda.current_stream(self._packed.device).record_event().synchronize()
        arrays = ByteLayout.of(self._tensors).arrays(host)
        return {name: array.copy() if array.nbytes <= SMALL_BYTES else array for name, array in arrays.items()}
