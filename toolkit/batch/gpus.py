"""Scenes on several GPUs: a process for each, which runs every so many-th scene as a run of its own would."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from multiprocessing.connection import Connection, wait
from typing import Protocol

from toolkit.batch.processes import end_with_main_process, interrupts_blocked
from toolkit.batch.scenes import Scene, Shard
from toolkit.errors import CheckFailed, InputError
from toolkit.runtime.run_record import FrameRecord

VISIBLE = "CUDA_VISIBLE_DEVICES"
ENDING_SECONDS = 10.0
"""That a process may take after its last frame."""


class Job(Protocol):
    """What a process is sent: it is pickled."""

    def records(self, scenes: Sequence[Scene]) -> AbstractContextManager[Iterator[FrameRecord]]:
        """What becomes of the frames of scenes, in order, in the process."""


def visible_gpus(count: int, available: int) -> list[str]:
    """What CUDA calls so many of the GPUs that this process sees. Raises InputError if there are fewer."""
    if count > available:
        raise InputError(f"--gpus {count}: torch sees {available}; give as many, or check {VISIBLE}")
    named = os.environ.get(VISIBLE)
    names = named.split(",") if named else [str(number) for number in range(available)]
    return names[:count]


@contextmanager
def gpu_records(job: Job, scenes: Sequence[Scene], gpus: Sequence[str]) -> Iterator[Iterator[FrameRecord]]:
    """The record of every frame in order, run by a process for each of the GPUs, which sees that one alone.

    At the end of the block, however it ends, none is left. Raises what a process raises, and CheckFailed if one is
    ended from outside.
    """
    context = multiprocessing.get_context("spawn")
    processes, ends = [], []
    try:
        with interrupts_blocked():
            for index, gpu in enumerate(gpus):
                receiving, sending = context.Pipe(duplex=False)
                share = Shard(index, len(gpus)).of(scenes)
                process = context.Process(target=_run_share, args=(job, share, gpu, sending))
                process.start()
                sending.close()
                processes.append(process)
                ends.append(receiving)
        with closing(_in_order(scenes, ends)) as records:
            yield records
        for process in processes:
            process.join(ENDING_SECONDS)
    finally:
        for process in processes:
            process.terminate()
            process.join()
        for end in ends:
            end.close()


def _in_order(scenes: Sequence[Scene], ends: Sequence[Connection]) -> Generator[FrameRecord]:
    """Records as they come through the ends of pipes, in the order of the scenes; all are emptied meanwhile."""
    told: dict[Connection, deque[FrameRecord | Exception]] = {end: deque() for end in ends}
    waited = set(ends)
    for number, scene in enumerate(scenes):
        end = ends[number % len(ends)]
        for _ in scene.frames:
            while not told[end]:
                if end not in waited:
                    raise CheckFailed("a process of --gpus was ended from outside, perhaps for want of memory")
                for ready in wait(list(waited)):
                    assert isinstance(ready, Connection)
                    try:
                        told[ready].append(ready.recv())
                    except EOFError:
                        waited.remove(ready)
            record = told[end].popleft()
            if isinstance(record, Exception):
                raise record
            yield record


def _run_share(job: Job, scenes: Sequence[Scene], gpu: str, pipe: Connection) -> None:
    end_with_main_process()
    os.environ[VISIBLE] = gpu  # before CUDA is asked for anything
    try:
        with job.records(scenes) as records:
            for record in records:
                pipe.send(record)
    except Exception as error:  # raised in the frame's turn, by the process that has the command
        pipe.send(error)
    finally:
        pipe.close()
