"""Clips in one piece: what goes from process to process, or to a device, costs more by the piece than by the byte."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from toolkit.training.clip import Clip, ClipFrame
from toolkit.training.spec import Tensors

ALIGNMENT = 256
"""Bytes: where memory of CUDA begins, so that no kernel has to read a tensor otherwise than by itself."""


@dataclass(frozen=True)
class Piece:
    """Where a tensor lies in the buffer."""

    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.start + self.dtype.itemsize * math.prod(self.shape)

    def of(self, buffer: Tensor) -> Tensor:
        """The tensor, which shares the buffer's memory."""
        return buffer[self.start : self.end].view(self.dtype).view(self.shape)


@dataclass(frozen=True)
class PackedFrame:
    inputs: Mapping[str, Piece]
    truth: Mapping[str, Piece]


@dataclass(frozen=True)
class PackedClip:
    """A clip whose tensors are pieces of one buffer, uint8 [bytes]."""

    name: str
    buffer: Tensor
    frames: tuple[PackedFrame, ...]

    def pin_memory(self) -> PackedClip:
        """In page-locked memory, from where a copy to a GPU goes on beside other work; torch's loader calls this."""
        return replace(self, buffer=self.buffer.pin_memory())

    def to(self, device: torch.device) -> Clip:
        """The clip on a device, in one copy."""
        buffer = self.buffer.to(device, non_blocking=True)

        def tensors(pieces: Mapping[str, Piece]) -> Tensors:
            return {name: piece.of(buffer) for name, piece in pieces.items()}

        return Clip(self.name, tuple(ClipFrame(tensors(each.inputs), tensors(each.truth)) for each in self.frames))


def pack(clip: Clip) -> PackedClip:
    """Copy a clip's tensors, which are on the CPU, into one buffer, which a worker shares from the start."""
    placed: list[tuple[Piece, Tensor]] = []

    def place(tensors: Tensors) -> dict[str, Piece]:
        pieces = {}
        for name, tensor in tensors.items():
            end = placed[-1][0].end if placed else 0
            pieces[name] = Piece(-(-end // ALIGNMENT) * ALIGNMENT, tensor.dtype, tuple(tensor.shape))
            placed.append((pieces[name], tensor))
        return pieces

    frames = tuple(PackedFrame(place(frame.inputs), place(frame.truth)) for frame in clip.frames)
    size = placed[-1][0].end if placed else 0
    # As torch's own collation does: else the buffer would be copied once more on its way.
    storage = torch.UntypedStorage(size) if get_worker_info() is None else torch.UntypedStorage._new_shared(size)
    buffer = torch.empty(0, dtype=torch.uint8).set_(storage)
    for piece, tensor in placed:
        piece.of(buffer).copy_(tensor)
    return PackedClip(clip.name, buffer, frames)
