"""Several scenes at once in one process, each with a session of its own that lets others run beside it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from queue import SimpleQueue

from toolkit.batch.finishing import Finishing
from toolkit.batch.in_turns import scenes_in_turns
from toolkit.batch.scenes import Scene
from toolkit.batch.writer import SceneWriter
from toolkit.engines.session import PictureSession
from toolkit.runtime.run_record import FrameRecord
from toolkit.stops import stops_held


@dataclass(frozen=True, eq=False)
class _Ended:
    """There are no more frames of a scene; `failure` says why, if that is not its end."""

    failure: Exception | None


@dataclass(frozen=True, eq=False)
class _SceneRun:
    """A scene, and what becomes of its frames in order, as it comes."""

    scene: Scene
    told: SimpleQueue[FrameRecord | _Ended]


def scenes_at_once(
    writers: Sequence[SceneWriter], scenes: Sequence[Scene], finishing: Finishing, decoders: int = 0
) -> Generator[FrameRecord]:
    """What became of each frame, in the order of the scenes, of which each writer runs one at a time.

    All share `finishing`, and the threads that decode ahead. Raises what a scene raises, after all frames before it; no
    scene goes on then. Scenes have a thread each, or one for all if sessions are on a device, which runs by itself, and
    pictures are decoded ahead: else each would wait for its own.
    """
    if decoders and all(isinstance(writer.session, PictureSession) for writer in writers):
        yield from scenes_in_turns(writers, scenes, finishing, decoders)
        return
    share = replace(finishing, behind=-(-finishing.behind // len(writers)))
    threads = -(-decoders // len(writers))
    runs = [_SceneRun(scene, SimpleQueue()) for scene in scenes]
    waiting, stop = deque(runs), threading.Event()

    def work(writer: SceneWriter) -> None:
        with suppress(IndexError):  # when nothing waits any more
            while not stop.is_set():
                run = waiting.popleft()
                run.told.put(_Ended(_failure(writer, run, share, threads, stop)))

    pool = ThreadPoolExecutor(len(writers), "scene")
    try:
        for writer in writers:
            pool.submit(work, writer)
        for run in runs:
            while not isinstance(told := run.told.get(), _Ended):
                yield told
            if told.failure is not None:
                raise told.failure
    finally:
        stop.set()
        with stops_held():
            pool.shutdown()


def _failure(
    writer: SceneWriter, run: _SceneRun, finishing: Finishing, decoders: int, stop: threading.Event
) -> Exception | None:
    """Run a scene, until it ends or a `stop`, and tell of its frames; gives what ended it, if anything did."""
    try:
        with closing(writer.run([run.scene], finishing, decoders)) as records:
            for record in records:
                run.told.put(record)
                if stop.is_set():
                    break
    except Exception as error:  # raised in the scene's turn
        return error
    return None
