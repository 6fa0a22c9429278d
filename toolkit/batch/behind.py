"""Work on each of several items while the next one is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from toolkit.stops import stops_held

Item = TypeVar("Item")
Done = TypeVar("Done")


def one_behind(work: Callable[[Item], Done], items: Iterable[Item]) -> Iterator[Done]:
    """What `work` makes of each item, in order; a thread is at it while the next item is made.

    Nothing is at work while the caller has a value, nor after the end, however that comes about. What making an item
    raises is raised after the values of all items before it, and what `work` raises instead of its value.
    """
    source = iter(items)
    running: Future[Done] | None = None
    # At its end, an interrupt's as well, it waits for what is at work.
    with ThreadPoolExecutor(1) as thread:
        while True:
            try:
                item = next(source)
            except Exception as error:
                if running is not None:
                    yield running.result()
                if isinstance(error, StopIteration):
                    return
                raise
            if running is not None:
                yield running.result()
            # An interrupt while it starts would leave a thread behind that nobody knows.
            with stops_held():
                running = thread.submit(work, item)
