"""Several scenes at once on a device of its own, by one thread that has it run a frame of each in turn.

A thread for each scene would wait for the others at Python's interpreter more often than for the device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from toolkit.batch.finishing import Finishing
from toolkit.batch.scenes import Scene
from toolkit.batch.writer import BegunFrame, SceneWriter
from toolkit.runtime.run_record import FrameRecord


@dataclass(eq=False)
class _SceneRun:
    """A scene, those of its frames that were begun and not told of, and how many were not begun yet."""

    scene: Scene
    left: int
    begun: deque[BegunFrame] = field(default_factory=deque)
    failure: Exception | None = None
    """Why no more will be begun."""


def scenes_in_turns(
    writers: Sequence[SceneWriter], scenes: Sequence[Scene], finishing: Finishing, decoders: int = 0
) -> Generator[FrameRecord]:
    """What became of each frame, in the order of the scenes, of which each writer runs one at a time.

    All share `finishing`, and the threads that decode ahead. Raises what a scene raises, after all frames before it; no
    scene goes on then.
    """
    runs = [_SceneRun(scene, len(scene.frames)) for scene in scenes]
    waiting, threads = iter(runs), -(-decoders // len(writers))
    with ExitStack() as stack:
        lanes = deque(stack.enter_context(closing(_lane(writer, waiting, finishing, threads))) for writer in writers)
        unfinished: deque[BegunFrame] = deque()
        for run in runs:
            while run.begun or (run.left and run.failure is None):
                if run.begun and (run.begun[0].done() or not lanes):
                    yield run.begun.popleft().result()
                else:
                    _take_turn(lanes, unfinished, finishing.behind)
            if run.failure is not None:
                raise run.failure


def _lane(
    writer: SceneWriter, waiting: Iterator[_SceneRun], finishing: Finishing, decoders: int
) -> Generator[BegunFrame]:
    """A frame at a time of one waiting scene after the other; pictures of the next scene are decoded ahead as well."""
    taken: deque[_SceneRun] = deque()

    def scenes() -> Iterator[Scene]:
        for run in waiting:
            taken.append(run)
            yield run.scene

    try:
        with closing(writer.begin(scenes(), finishing, decoders)) as begun:
            for frame in begun:
                taken[0].begun.append(frame)
                taken[0].left -= 1
                if not taken[0].left:
                    taken.popleft()
                yield frame
    except Exception as error:
        if not taken:
            raise
        taken[0].failure = error  # raised in the scene's turn


def _take_turn(lanes: deque[Generator[BegunFrame]], unfinished: deque[BegunFrame], behind: int) -> None:
    """Have the next lane begin a frame; more than `behind` are not left unfinished."""
    lane = lanes.popleft()
    frame = next(lane, None)
    if frame is not None:
        lanes.append(lane)
        unfinished.append(frame)
    while unfinished and (len(unfinished) > behind or unfinished[0].done()):
        unfinished.popleft().wait()
