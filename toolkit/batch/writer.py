"""Scenes through a session to files."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from toolkit.batch.finishing import Finisher, Finishing, Means, at_once, in_order, layers_of
from toolkit.batch.scenes import Scene
from toolkit.bundle import Bundle
from toolkit.data.device_decoding import DeviceDecoder
from toolkit.data.ego_motion import FirstFrame
from toolkit.data.sequence import frame_steps
from toolkit.data.stage_clock import Stage, StageClock
from toolkit.engines.session import Session
from toolkit.freed_memory import keep_freed_memory
from toolkit.runtime.interpreter import Interpreter
from toolkit.runtime.run_record import FrameRecord
from toolkit.runtime.sequence import run_steps
from toolkit.specs import Refinement, Submodule


@dataclass(frozen=True, eq=False)
class SceneWriter:
    """Runs scenes and writes the results of each frame into `folder`, with a picture if `pictures`.

    `refinements` change the results before that. Pictures are decoded by OpenCV, or else by a `decoder`.
    """

    bundle: Bundle
    session: Session
    submodules: Sequence[Submodule]
    first_frame: FirstFrame
    pictures: bool
    folder: Path
    refinements: Sequence[Refinement] = ()
    decoder: DeviceDecoder | None = None

    def run(
        self, scenes: Iterable[Scene], finishing: Finishing | None = None, decoders: int = 0
    ) -> Generator[FrameRecord]:
        """What became of each frame in order; those with results that are not finite are left out.

        Results are finished by `finishing`, or else at once, and so many `decoders` decode pictures ahead. Raises
        InputError for a bad frame, after all frames before it.
        """
        if finishing is None:
            finishing = at_once(Finisher(self.folder, self.pictures), self.means())
        with closing(self.begin(scenes, finishing, decoders)) as begun:
            yield from in_order(begun, finishing.behind)

    def begin(self, scenes: Iterable[Scene], finishing: Finishing, decoders: int) -> Generator[BegunFrame]:
        """Each frame as soon as the network is done with it; the rest is `run`'s."""
        keep_freed_memory()
        clock = StageClock[Stage]()
        steps = chain.from_iterable(frame_steps(scene.frames, scene.previous) for scene in scenes)
        outputs = run_steps(self.bundle, self.session, steps, self.first_frame, clock, decoders, self.decoder)
        with closing(outputs):
            for given in outputs:
                yield BegunFrame(clock.take(), finishing.begin(given))
                clock.skip()

    def means(self) -> Means:
        """What makes results of the network's outputs."""
        return Means(Interpreter.of(self.bundle, self.submodules, self.refinements), layers_of(self.submodules))


@dataclass(frozen=True, eq=False)
class BegunFrame:
    """A frame of which the network is done, after so many `seconds` in each stage, and what still becomes of it."""

    seconds: dict[Stage, float]
    finished: Future[FrameRecord]

    def done(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.finished.done()

    def wait(self) -> None:
        """Until it is done, or has failed."""
        wait([self.finished])

    def result(self) -> FrameRecord:
        """What became of it. Raises what went wrong."""
        record = self.finished.result()
        return replace(record, seconds={**self.seconds, **record.seconds})
