"""Many tensors in one piece of memory: one kernel does for all what would take a launch or an allocation for each."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

from torch import Size, Tensor

ALIGNMENT = 4
"""Elements. Kernels read sixteen bytes at once where tensors begin at a multiple of them."""


class FlatTensors:
    """Tensors of zeros like others, contiguous, in one piece for each type and device."""

    def __init__(self, like: Sequence[Tensor]) -> None:
        kinds = dict.fromkeys((each.dtype, each.device) for each in like)
        self._pieces = [
            _Piece.made({number: each for number, each in enumerate(like) if (each.dtype, each.device) == kind})
            for kind in kinds
        ]
        numbers, found = range(len(like)), dict[int, Tensor]()
        for piece in self._pieces:
            found |= piece.views(piece.memory, numbers)
        self.tensors = [found[number] for number in numbers]
        """In the order of the others."""

    @property
    def memory(self) -> list[Tensor]:
        """The pieces."""
        return [piece.memory for piece in self._pieces]

    def zero(self) -> None:
        """Set all to zero."""
        for piece in self._pieces:
            piece.memory.zero_()

    def copies(self, numbers: Container[int]) -> dict[int, Tensor]:
        """Copies of those with these numbers in the order."""
        found: dict[int, Tensor] = {}
        for piece in self._pieces:
            found |= piece.views(piece.memory.clone(), numbers)
        return found


class _Piece(NamedTuple):
    """The tensors of one type and device."""

    memory: Tensor
    places: Mapping[int, tuple[Size, tuple[int, ...], int]]
    """Shape, strides and offset of each by its number."""

    @classmethod
    def made(cls, like: Mapping[int, Tensor]) -> _Piece:
        places, offset = {}, 0
        for number, each in like.items():
            places[number] = (each.shape, each.new_empty(each.shape, device="meta").stride(), offset)
            offset += -(-each.numel() // ALIGNMENT) * ALIGNMENT
        return cls(next(iter(like.values())).new_zeros(offset), places)

    def views(self, memory: Tensor, numbers: Container[int]) -> dict[int, Tensor]:
        """The tensors with these numbers in memory that is laid out as the piece's own."""
        return {number: memory.as_strided(*place) for number, place in self.places.items() if number in numbers}
