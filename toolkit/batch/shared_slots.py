"""Large arrays for other processes by memory that they share: what is sent to them stays small."""

from __future__ import annotations

import mmap
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.reduction import DupFd
from typing import Any, Generic, TypeVar

import numpy as np

Value = TypeVar("Value")
LARGE_BYTES = 2**12
"""Arrays from this size on are shared, and smaller ones sent."""
ALIGNMENT = 64
"""Bytes, at a multiple of which an array begins in a slot, as in memory of numpy's own."""


@dataclass(frozen=True, eq=False)
class SharedMemory:
    """Memory by its descriptor, which `multiprocessing` passes on to processes that it starts."""

    descriptor: int

    @cached_property
    def content(self) -> memoryview:
        """All of it, as large as it is when this is first asked for."""
        return memoryview(mmap.mmap(self.descriptor, 0))

    def take(self) -> None:
        """Have this process, which was given the memory when it started, find there what it is sent."""
        _TAKEN.set(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _passed_on, (DupFd(self.descriptor),)


def _passed_on(duplicate: Any) -> SharedMemory:
    return SharedMemory(duplicate.detach())


_TAKEN: ContextVar[SharedMemory] = ContextVar("memory that this process was given")


@dataclass(frozen=True, eq=False)
class Whole(Generic[Value]):
    """A value that is sent as it is."""

    whole: Value

    def value(self) -> Value:
        return self.whole


@dataclass(frozen=True)
class Packed(Generic[Value]):
    """A value whose large arrays are these `spans` of the memory, in a slot of their own; `pickled` is the rest."""

    pickled: bytes
    spans: tuple[tuple[int, int], ...]
    slot: int

    def value(self) -> Value:
        """In a process that took the memory. Arrays are valid until the slot is released."""
        content = _TAKEN.get().content
        value: Value = pickle.loads(self.pickled, buffers=[content[start:stop] for start, stop in self.spans])
        return value


class SharedSlots:
    """Slots of memory, each for the large arrays of one value that another process works on.

    The memory has no name, so that nothing is left of it when the processes have ended, in whatever way, and it is no
    part of `/dev/shm`, which containers make small. Where a system has none, or all slots are taken, values are sent.
    """

    def __init__(self, memory: SharedMemory | None, count: int) -> None:
        """In memory that is empty, if there is any."""
        self._memory = memory
        self._free = list(range(count))
        self._slot_bytes = 0
        self._bytes = np.empty(0, np.uint8)
        self._lock = threading.Lock()

    @classmethod
    @contextmanager
    def opened(cls, count: int) -> Iterator[SharedSlots]:
        """So many, until the end of the block."""
        memory = _new_memory()
        try:
            yield cls(memory, count)
        finally:
            if memory is not None:
                os.close(memory.descriptor)

    @property
    def take(self) -> Callable[[], None] | None:
        """What a process does, when it starts, that is to be sent values."""
        return None if self._memory is None else self._memory.take

    def packed(self, value: Value) -> Packed[Value] | Whole[Value]:
        """A value to be sent to a process that took the memory, which needs its slot until that is released.

        The first value says how large slots are: those that need more are sent whole.
        """
        if self._memory is None:
            return Whole(value)
        buffers: list[np.ndarray] = []

        def part_of_pickle(buffer: pickle.PickleBuffer) -> bool:
            array = np.frombuffer(buffer.raw(), np.uint8)
            if array.nbytes >= LARGE_BYTES:
                buffers.append(array)
            return array.nbytes < LARGE_BYTES

        pickled = pickle.dumps(value, 5, buffer_callback=part_of_pickle)
        size = sum(_aligned(array.nbytes) for array in buffers)
        slot = self._taken(self._memory, size) if buffers else None
        if slot is None:
            return Whole(value)
        start, spans = slot * self._slot_bytes, []
        for array in buffers:
            spans.append((start, start + array.nbytes))
            np.copyto(self._bytes[start : start + array.nbytes], array)  # other threads can go on meanwhile
            start += _aligned(array.nbytes)
        return Packed(pickled, tuple(spans), slot)

    def release(self, sent: Packed[Any] | Whole[Any]) -> None:
        """Nobody needs the arrays of a value any more."""
        if isinstance(sent, Packed):
            with self._lock:
                self._free.append(sent.slot)

    def _taken(self, memory: SharedMemory, size: int) -> int | None:
        """A slot of at least so many bytes, if one is free."""
        with self._lock:
            if not self._slot_bytes:
                with suppress(OSError):  # there may be a limit to files
                    os.ftruncate(memory.descriptor, size * len(self._free))
                    self._bytes = np.frombuffer(memory.content, np.uint8)
                    self._slot_bytes = size
            return self._free.pop() if size <= self._slot_bytes and self._free else None


def _new_memory() -> SharedMemory | None:
    """Empty, and without a name."""
    if sys.platform == "linux":
        with suppress(OSError):
            return SharedMemory(os.memfd_create("outputs"))
    return None


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
