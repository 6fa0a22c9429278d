"""The clips of a run, made ahead by processes that live as long as it does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from torch.utils.data import DataLoader

from toolkit.freed_memory import keep_freed_memory
from toolkit.stops import end_with_parent
from toolkit.training.clips import Clips, Place
from toolkit.training.packing import PackedClip, pack


@dataclass(frozen=True)
class Order:
    """The places of all `epochs`, one after the other, without the first `seen`.

    Workers go on into the next epoch while the last one ends with a checkpoint and figures.
    """

    epochs: range
    places: Callable[[int], Iterable[Place]]
    """Those of an epoch."""
    seen: int

    def __iter__(self) -> Iterator[Place]:
        return islice((place for epoch in self.epochs for place in self.places(epoch)), self.seen, None)


def packed_clips(clips: Clips, order: Order, workers: int, *, pinned: bool) -> Generator[PackedClip, None, None]:
    """The clips in this order, made by so many processes, or here without any; to be closed, which ends the processes.

    They are not batched, for their frames differ in the number of objects. A thread puts those that are to be `pinned`
    into page-locked memory.
    """
    loader: DataLoader[PackedClip] = DataLoader(
        clips,  # type: ignore[arg-type]
        sampler=order,
        batch_size=None,
        num_workers=workers,
        collate_fn=pack,  # type: ignore[arg-type]  # of one clip
        worker_init_fn=_prepare_worker,
        pin_memory=pinned,
    )
    return _each(iter(loader))


def _each(clips: Iterator[PackedClip]) -> Generator[PackedClip, None, None]:
    """Of an iterator that ends its processes when it is let go of."""
    yield from clips


def _prepare_worker(number: int) -> None:
    """A stop concerns the process that trains; its end is the worker's, which is ended by SIGTERM."""
    keep_freed_memory()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for each in (signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(each, signal.SIG_IGN)
    end_with_parent(os.getppid())
