"""Scenes in several processes, each with a session of its own."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, repeat
from typing import Protocol

from toolkit.batch.scenes import Scene
from toolkit.batch.writer import SceneWriter
from toolkit.errors import CheckFailed
from toolkit.runtime.run_record import FrameRecord


class Job(Protocol):
    """What a worker is sent: it is pickled, and equal to itself after that."""

    def __hash__(self) -> int: ...

    def open(self) -> SceneWriter:
        """What runs the scenes, in the worker's process."""


@contextmanager
def scene_workers(job: Job, scenes: Sequence[Scene], workers: int) -> Iterator[Iterator[FrameRecord]]:
    """The records of all frames in the order of the scenes, run by `workers` processes with sessions of their own.

    At the end of the block, however it ends, no worker is left. Raises what a worker raises, and CheckFailed if one is
    ended from outside.
    """
    others = set(multiprocessing.active_children())
    # Torch and ONNX Runtime have threads by now, which a forked process would lack.
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)
    try:
        with _interrupts_blocked():
            records = executor.map(_run_scene, repeat(job), scenes)
        yield chain.from_iterable(records)
        executor.shutdown()
    except BrokenProcessPool as error:
        raise CheckFailed(
            "a worker process was ended from outside, perhaps for want of memory; run with fewer --workers"
        ) from error
    finally:
        # After a failure some may be in the middle of a scene that nobody wants any more.
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        executor.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes that are started in the block never see Ctrl-C: it is the main process' matter, which ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    """Have the worker end with the main process, even if that is killed."""
    threading.Thread(target=_end_with_main_process, daemon=True).start()


def _end_with_main_process() -> None:
    main_process = multiprocessing.parent_process()
    assert main_process is not None
    main_process.join()
    os._exit(1)


def _run_scene(job: Job, scene: Scene) -> list[FrameRecord]:
    return list(opened(job).run(scene))


@functools.cache
def opened(job: Job) -> SceneWriter:
    """Opened by a worker's first scene, so that what goes wrong is raised like any other error."""
    return job.open()
