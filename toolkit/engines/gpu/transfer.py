"""Tensors between host and device: many in one copy, through page-locked memory, while other work goes on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

SMALL_BYTES = 2**18
"""Arrays up to this size are copied out of the memory that they came in: one that is kept must not keep all."""


def pack(tensors: Mapping[str, Tensor], out: Tensor | None = None) -> Tensor:
    """The bytes of all tensors, one behind the other: those of wider types first, so that each is aligned."""
    return torch.cat([tensor.reshape(-1).view(torch.uint8) for _, tensor in _in_order(tensors)], out=out)


def unpack(packed: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Views of what `pack` packed, of the types and shapes that the tensors in `like` have."""
    ordered = _in_order(like)
    parts = packed.split([tensor.nbytes for _, tensor in ordered])
    return {
        name: part.view(tensor.dtype).view(tensor.shape) for part, (name, tensor) in zip(parts, ordered, strict=True)
    }


def page_locked(size: tuple[int, ...]) -> Tensor:
    """Bytes on the host that a device can copy by itself. torch keeps such memory and gives it out again."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=torch.cuda.is_available())


class Upload:
    """Copies to the device on a stream of their own, which work on the current stream waits for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.stream = torch.cuda.Stream(device)

    def together(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """The arrays on the device, in one copy."""
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        packed = pack(tensors, out=page_locked((sum(tensor.nbytes for tensor in tensors.values()),)))
        with torch.cuda.stream(self.stream):
            copied = packed.to(self._device, non_blocking=True)
        return unpack(self.ready(copied), tensors)

    def pictures(self, shape: tuple[int, ...]) -> PictureUpload:
        """Memory for pictures of this shape, cameras first."""
        return PictureUpload(self, shape, self._device)

    def ready(self, copied: Tensor) -> Tensor:
        """What was copied on this stream, for use on the current one."""
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self.stream)
        copied.record_stream(current)
        return copied


class PictureUpload:
    """Page-locked memory for the pictures of a frame (`toolkit.data.pictures.PictureMemory`).

    The copy of a picture begins when it is there, while the next one is being decoded.
    """

    def __init__(self, upload: Upload, shape: tuple[int, ...], device: torch.device) -> None:
        self._upload = upload
        self._host = page_locked(shape)
        self._waiting = set(range(shape[0]))
        self.array: np.ndarray = self._host.numpy()
        with torch.cuda.stream(upload.stream):
            self._copied = torch.empty(shape, dtype=torch.uint8, device=device)

    def filled(self, camera: int) -> None:
        self._waiting.discard(camera)
        with torch.cuda.stream(self._upload.stream):
            self._copied[camera].copy_(self._host[camera], non_blocking=True)

    def tensor(self) -> Tensor:
        """All pictures on the device, for use on the current stream."""
        for camera in sorted(self._waiting):
            self.filled(camera)
        return self._upload.ready(self._copied)


class Download:
    """Tensors of a frame that leave the device together, in one copy, when the first of them is asked for."""

    def __init__(self, tensors: Mapping[str, Tensor], packed: Tensor) -> None:
        """`packed` is what `pack` made of the tensors, on the device."""
        self._tensors, self._packed = tensors, packed
        self._names = {id(tensor): name for name, tensor in tensors.items()}

    def __contains__(self, tensor: Tensor) -> bool:
        """Whether this very tensor is one of them."""
        return id(tensor) in self._names

    def __getitem__(self, tensor: Tensor) -> np.ndarray:
        """The tensor as an array. It remains valid."""
        return self.arrays[self._names[id(tensor)]]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of them by name."""
        host = page_locked(tuple(self._packed.shape))
        host.copy_(self._packed, non_blocking=True)
        if self._packed.is_cuda:
            torch.cuda.current_stream(self._packed.device).record_event().synchronize()
        arrays = {name: tensor.numpy() for name, tensor in unpack(host, self._tensors).items()}
        return {name: array.copy() if array.nbytes <= SMALL_BYTES else array for name, array in arrays.items()}


def _in_order(tensors: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    return sorted(tensors.items(), key=lambda item: -item[1].itemsize)
