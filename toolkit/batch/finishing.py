"""What remains of a frame when the network is done with it: results, files and a picture, beside later frames."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import cv2

from toolkit.batch.processes import interrupts_blocked, process_pool
from toolkit.batch.shared_slots import Sent, SharedSlots
from toolkit.data.stage_clock import Stage, StageClock
from toolkit.errors import CheckFailed
from toolkit.freed_memory import keep_freed_memory
from toolkit.runtime.interpreter import FrameOutputs, Interpreter
from toolkit.runtime.result_writer import write_result
from toolkit.runtime.results import FrameResult
from toolkit.runtime.run_record import FrameRecord
from toolkit.specs import Submodule
from toolkit.visualize.birds_eye import Layer
from toolkit.visualize.frame_picture import draw_result, write_picture

Value = TypeVar("Value", covariant=True)
FRAMES_BEHIND_EACH = 2
"""Results that may wait for each process: one is written or drawn, the other on its way."""


@dataclass(frozen=True, eq=False)
class Means:
    """What makes results of outputs, and what submodules draw of them."""

    interpret: Interpreter
    layers: Sequence[Layer]


class Job(Protocol):
    """What a process is sent: it is pickled, and equal to itself after that."""

    def __hash__(self) -> int: ...

    def open_means(self) -> Means:
        """What makes results, in a process that has nothing yet."""


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

    def record(self, outputs: FrameOutputs, means: Means) -> FrameRecord:
        """Interpret a network's outputs and finish the result. Raises InputError if that is not possible."""
        clock = StageClock[Stage]()
        result = means.interpret(outputs)
        clock.lap(Stage.POSTPROCESS)
        finished = self.finish(result, means.layers)
        return FrameRecord.of_result(result, clock.take() | finished.seconds, left_out=finished.left_out)

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
    """Where frames are finished: `begin` lets one be, and `behind` so many may wait until the network has to."""

    begin: Callable[[FrameOutputs], Future[FrameRecord]]
    behind: int


def at_once(finisher: Finisher, means: Means) -> Finishing:
    """Each frame is finished when its outputs are there, and the network waits."""

    def begin(outputs: FrameOutputs) -> Future[FrameRecord]:
        done: Future[FrameRecord] = Future()
        try:
            done.set_result(finisher.record(outputs, means))
        except Exception as error:  # raised in the frame's turn
            done.set_exception(error)
        return done

    return Finishing(begin, behind=0)


@contextmanager
def in_processes(finisher: Finisher, job: Job, processes: int) -> Iterator[Finishing]:
    """Frames are finished by so many processes: threads would take turns with the network's host work.

    At the end of the block, however it ends, nothing writes any more. Raises CheckFailed if a process is ended from
    outside.
    """
    behind = FRAMES_BEHIND_EACH * processes
    with SharedSlots.opened(behind + 1) as slots, process_pool(processes, "--helpers", slots.take) as pool:

        def send(outputs: FrameOutputs) -> Future[FrameRecord]:
            sending = slots.sending(outputs.tensors)
            with interrupts_blocked():
                recorded = pool.submit(_record, finisher, job, outputs.result, sending)
            recorded.add_done_callback(lambda _: sending.release())
            return recorded

        with interrupts_blocked():
            for _ in range(processes):  # they start while the session is loaded
                pool.submit(_prepare, job)
        yield Finishing(send, behind)


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


def layers_of(submodules: Iterable[Submodule]) -> list[Layer]:
    """What submodules draw themselves."""
    return [submodule.draw for submodule in submodules if submodule.draw is not None]


def _record(finisher: Finisher, job: Job, result: FrameResult, sent: Sent) -> FrameRecord:
    return finisher.record(FrameOutputs(result, sent.arrays()), _opened(job))


@functools.cache
def _opened(job: Job) -> Means:
    return job.open_means()


def _prepare(job: Job) -> None:
    """Do what only a process' first frame would wait for."""
    cv2.setNumThreads(1)
    keep_freed_memory()
    _opened(job)
