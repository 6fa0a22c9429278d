"""Scenes in several processes, each with a session of its own."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Protocol

from toolkit.batch.processes import process_map
from toolkit.batch.scenes import Scene
from toolkit.batch.writer import SceneWriter
from toolkit.runtime.run_record import FrameRecord


class Job(Protocol):
    """What a worker is sent: it is pickled, and equal to itself after that."""

    def __hash__(self) -> int: ...

    def open(self) -> SceneWriter:
        """What runs the scenes, in the worker's process."""


@contextmanager
def scene_workers(job: Job, scenes: Sequence[Scene], workers: int) -> Iterator[Iterator[FrameRecord]]:
    """The records of all frames in the order of the scenes, run by `workers` processes with sessions of their own.

    Ends and raises as `process_map` does.
    """
    with process_map(functools.partial(_run_scene, job), scenes, workers) as records:
        yield chain.from_iterable(records)


def _run_scene(job: Job, scene: Scene) -> list[FrameRecord]:
    return list(opened(job).run([scene]))


@functools.cache
def opened(job: Job) -> SceneWriter:
    """Opened by a worker's first scene, so that what goes wrong is raised like any other error."""
    return job.open()
