"""Scenes through a session to files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.batch.behind import one_behind
from toolkit.batch.scenes import Scene
from toolkit.bundle import Bundle
from toolkit.data.ego_motion import FirstFrame
from toolkit.data.stage_clock import Stage, StageClock
from toolkit.engines.session import Session
from toolkit.errors import CheckFailed
from toolkit.runtime.results import FrameResult, write_result
from toolkit.runtime.run_record import FrameRecord
from toolkit.runtime.sequence import run_sequence
from toolkit.specs import Refinement, Submodule
from toolkit.visualize.frame_picture import draw_result, write_picture


@dataclass(frozen=True, eq=False)
class SceneWriter:
    """Runs scenes and writes the results of each frame into `folder`, with a picture if `pictures`.

    `refinements` change the results before that.
    """

    bundle: Bundle
    session: Session
    submodules: Sequence[Submodule]
    first_frame: FirstFrame
    pictures: bool
    folder: Path
    refinements: Sequence[Refinement] = ()

    def run(self, scene: Scene) -> Iterator[FrameRecord]:
        """What became of each frame; those with results that are not finite are left out. InputError for a bad one.

        A frame is written while the next one is run.
        """
        return one_behind(self._write, self._results(scene))

    def _results(self, scene: Scene) -> Iterator[tuple[FrameResult, Mapping[Stage, float]]]:
        """The results of each frame, and how long they took."""
        clock = StageClock[Stage]()
        for result in run_sequence(
            self.bundle, self.session, self.submodules, scene.frames, self.first_frame, clock, scene.previous
        ):
            for refinement in self.refinements:
                result = refinement.apply(result)
            clock.lap(Stage.POSTPROCESS)
            yield result, clock.take()
            clock.skip()

    def _write(self, done: tuple[FrameResult, Mapping[Stage, float]]) -> FrameRecord:
        result, seconds = done
        clock = StageClock[Stage]()
        left_out = False
        try:
            write_result(result, self.folder)
            clock.lap(Stage.WRITE)
            if self.pictures:
                layers = [s.draw for s in self.submodules if s.draw is not None]
                write_picture(draw_result(result, layers=layers), self.folder / f"{result.frame}.png")
                clock.lap(Stage.DRAW)
        except CheckFailed:
            left_out = True
        return FrameRecord.of_result(result, {**seconds, **clock.take()}, left_out=left_out)
