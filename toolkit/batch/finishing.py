"""What remains of a frame when the network is done with it: its files and its picture, beside later frames."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import cv2

from toolkit.batch.processes import interrupts_blocked, process_pool
from toolkit.data.stage_clock import Stage, StageClock
from toolkit.errors import CheckFailed
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.result_writer import write_result
from toolkit.runtime.results import FrameResult
from toolkit.specs import Submodule
from toolkit.stops import stops_held
from toolkit.visualize.birds_eye import Layer
from toolkit.visualize.frame_picture import draw_result, write_picture

Value = TypeVar("Value", covariant=True)
FRAMES_BEHIND = 4
"""Results that may wait for the thread that writes them."""
FRAMES_BEHIND_EACH = 2
"""Results that may wait for each process: one is drawn, the other on its way."""


@dataclass(frozen=True)
class Finished:
    """What became of a result, and how long each stage took. Those that are not finite are `left_out`."""

    left_out: bool
    seconds: dict[Stage, float]


@dataclass(frozen=True)
class Finisher:
    """Writes results into a folder, with pictures if asked for; in values that another process understands."""

    folder: Path
    pictures: bool
    plugin_files: tuple[Path, ...] = ()
    disabled_plugins: tuple[str, ...] = ()

    def __call__(self, result: FrameResult) -> Finished:
        """In a process that has no plugins yet."""
        return self.finish(result, _layers(self.plugin_files, self.disabled_plugins) if self.pictures else ())

    def finish(self, result: FrameResult, layers: Sequence[Layer]) -> Finished:
        """Write a result and its picture. Raises InputError if that is not possible."""
        clock = StageClock[Stage]()
        try:
            write_result(result, self.folder)
        except CheckFailed:
            return Finished(left_out=True, seconds=clock.take())
        clock.lap(Stage.WRITE)
        if self.pictures:
            write_picture(draw_result(result, layers=layers), self.folder / f"{result.frame}.png")
            clock.lap(Stage.DRAW)
        return Finished(left_out=False, seconds=clock.take())


@dataclass(frozen=True, eq=False)
class Finishing:
    """Where results are finished: `begin` lets one be, and `behind` so many may wait until the network has to."""

    begin: Callable[[FrameResult], Future[Finished]]
    behind: int


def at_once(finisher: Finisher, layers: Sequence[Layer]) -> Finishing:
    """Each result is finished when it is there, and the network waits."""

    def begin(result: FrameResult) -> Future[Finished]:
        done: Future[Finished] = Future()
        try:
            done.set_result(finisher.finish(result, layers))
        except Exception as error:  # raised in the frame's turn
            done.set_exception(error)
        return done

    return Finishing(begin, behind=0)


@contextmanager
def finishing(
    finisher: Finisher, layers: Sequence[Layer], helpers: int, *, processes: bool = False
) -> Iterator[Finishing]:
    """Without `helpers` at once; else in a thread, or with pictures or if `processes` are asked for in so many.

    A thread takes turns with the network's host work, which only matters to many frames a second.

    At the end of the block, however it ends, nothing writes any more. Raises CheckFailed if a process is ended from
    outside.
    """
    if not helpers:
        yield at_once(finisher, layers)
    elif finisher.pictures or processes:
        with process_pool(helpers, "--helpers") as pool:

            def send(result: FrameResult) -> Future[Finished]:
                with interrupts_blocked():
                    return pool.submit(finisher, result)

            with interrupts_blocked():
                for _ in range(helpers):  # they start while the session is loaded
                    pool.submit(_prepare, finisher)
            yield Finishing(send, FRAMES_BEHIND_EACH * helpers)
    else:
        thread = ThreadPoolExecutor(1, "write")
        try:
            yield Finishing(lambda result: thread.submit(finisher.finish, result, layers), FRAMES_BEHIND)
        finally:
            with stops_held():
                thread.shutdown(cancel_futures=True)


class Outcome(Protocol[Value]):
    """A future, or what waits like one."""

    def result(self) -> Value:
        """What came of it, when it is done. Raises what went wrong."""

    def done(self) -> bool:
        """Whether `result` need not wait."""


def in_order(begun: Iterable[Outcome[Value]], behind: int) -> Generator[Value]:
    """What comes of each, as soon as it and those before are done; more than `behind` at a time are waited for.

    If no more can be begun, all that were are still waited for before the error is raised.
    """
    waiting: deque[Outcome[Value]] = deque()
    source, failure = iter(begun), None
    while failure is None:
        try:
            waiting.append(next(source))
        except StopIteration:
            break
        except Exception as error:
            failure = error
        while waiting and (len(waiting) > behind or waiting[0].done()):
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
    if failure is not None:
        raise failure


@functools.cache
def _layers(files: tuple[Path, ...], disabled: tuple[str, ...]) -> list[Layer]:
    plugins = PluginManager.load(files, disabled=disabled, warn=lambda _: None)  # the main process has warned
    return layers_of(plugins.submodules())


def layers_of(submodules: Iterable[Submodule]) -> list[Layer]:
    """What submodules draw themselves."""
    return [submodule.draw for submodule in submodules if submodule.draw is not None]


def _prepare(finisher: Finisher) -> None:
    """Do what only a process' first picture would wait for."""
    cv2.setNumThreads(1)
    if finisher.pictures:
        _layers(finisher.plugin_files, finisher.disabled_plugins)
