"""Arrays for other processes by memory that they share: what is sent only says where they are."""

from __future__ import annotations

import mmap
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.reduction import DupFd
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from toolkit.specs import Tensors

ALIGNMENT = 64
"""Bytes, at a multiple of which an array begins, as in memory of numpy's own."""
Described = tuple[tuple[str, tuple[int, ...], str], ...]
"""Of arrays, one behind the other: names, shapes and types."""


@dataclass(frozen=True, eq=False)
class SharedMemory:
    """Memory by its descriptor, which `multiprocessing` passes on to processes that it starts."""

    descriptor: int
    known: dict[tuple[int, Described], dict[str, NDArray[Any]]] = field(default_factory=dict)
    """Arrays that were asked for: they lie where they did a few frames ago."""

    def arrays(self, start: int, described: Described) -> Mapping[str, NDArray[Any]]:
        """Those that lie there from byte `start` on."""
        if (start, described) not in self.known:
            arrays, place = {}, start
            for name, shape, dtype in described:
                arrays[name] = np.ndarray(shape, dtype, self.content, place)
                place += _aligned(arrays[name].nbytes)
            self.known[start, described] = arrays
        return self.known[start, described]

    @cached_property
    def content(self) -> mmap.mmap:
        """All of it, as large as it is when it is first used. Raises OSError if there is no room for it."""
        return mmap.mmap(self.descriptor, 0)

    def take(self) -> None:
        """Have this process, which was given the memory when it started, find there what it is sent."""
        _TAKEN.set(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _passed_on, (DupFd(self.descriptor),)


def _passed_on(duplicate: Any) -> SharedMemory:
    return SharedMemory(duplicate.detach())


_TAKEN: ContextVar[SharedMemory] = ContextVar("memory that this process was given")


class Sent(Protocol):
    """Arrays on their way to another process, or there."""

    def arrays(self) -> Tensors:
        """By name. In the other process they are valid until it has done what they were sent for."""


@dataclass(frozen=True, eq=False)
class Whole:
    """Arrays that are sent themselves."""

    whole: Tensors

    def arrays(self) -> Tensors:
        return self.whole


@dataclass(frozen=True)
class InSlot:
    """Arrays that lie in a slot of the memory, from byte `start` on."""

    start: int
    described: Described

    def arrays(self) -> Tensors:
        return dict(_TAKEN.get().arrays(self.start, self.described))


@dataclass(eq=False)
class Sending:
    """Arrays that whatever thread pickles them puts into a slot: what arrives is `InSlot` or `Whole`."""

    whole: Tensors
    slots: SharedSlots
    sent: Whole | InSlot | None = None

    def arrays(self) -> Tensors:
        return self.whole

    def release(self) -> None:
        """The process that they were sent to is done with them."""
        if isinstance(self.sent, InSlot):
            self.slots.release(self.sent)

    def __reduce__(self) -> tuple[Any, ...]:
        self.sent = self.slots.put(self.whole)
        return _arrived, (self.sent,)


def _arrived(sent: Sent) -> Sent:
    return sent


class SharedSlots:
    """Slots of memory, each for the arrays that another process works on.

    The memory has no name, so that nothing is left of it when the processes have ended, in whatever way. It is no part
    of `/dev/shm`, which containers make small, unless Python knows no other. Where there is none, or too little, or all
    slots are taken, arrays are sent.
    """

    def __init__(self, memory: SharedMemory | None, count: int) -> None:
        """In memory that is empty, if there is any."""
        self._memory = memory
        self._count = count
        self._slot_bytes = 0
        self._free: list[int] = []
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
        """What a process does, when it starts, that is to be sent arrays."""
        return None if self._memory is None else self._memory.take

    def sending(self, arrays: Tensors) -> Sending:
        """Arrays to be sent to a process that took the memory, which are not changed until then."""
        return Sending(arrays, self)

    def put(self, arrays: Tensors) -> InSlot | Whole:
        """Copies of arrays in a slot, until that is released, or else the arrays themselves.

        The first ones say how large slots are.
        """
        size = sum(_aligned(array.nbytes) for array in arrays.values())
        if self._memory is None or not size or any(array.dtype.hasobject for array in arrays.values()):
            return Whole(arrays)
        start = self._taken(self._memory, size)
        if start is None:
            return Whole(arrays)
        described = tuple((name, array.shape, array.dtype.str) for name, array in arrays.items())
        for name, place in self._memory.arrays(start, described).items():
            np.copyto(place, arrays[name])  # other threads may go on meanwhile
        return InSlot(start, described)

    def release(self, sent: InSlot) -> None:
        """Nobody needs these arrays any more."""
        with self._lock:
            self._free.append(sent.start)

    def _taken(self, memory: SharedMemory, size: int) -> int | None:
        """Where a free slot of at least so many bytes begins, if there is one."""
        with self._lock:
            if not self._slot_bytes:
                with suppress(OSError):  # there may be too little, or a limit to files
                    os.posix_fallocate(memory.descriptor, 0, size * self._count)
                    self._slot_bytes = len(memory.content) // self._count
                    self._free = [number * size for number in range(self._count)]
            return self._free.pop() if size <= self._slot_bytes and self._free else None


def _new_memory() -> SharedMemory | None:
    """Empty, and without a name."""
    if sys.platform == "linux":
        with suppress(OSError):
            if hasattr(os, "memfd_create"):  # which Pythons that are built for older systems lack
                return SharedMemory(os.memfd_create("outputs"))
            return SharedMemory(os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o600))
    return None


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
