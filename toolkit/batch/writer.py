"""Scenes through a session to files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.batch.scenes import Scene
from toolkit.bundle import Bundle
from toolkit.data.ego_motion import FirstFrame
from toolkit.data.stage_clock import Stage, StageClock
from toolkit.engines.session import Session
from toolkit.errors import CheckFailed
from toolkit.runtime.result_writer import write_result
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
        """What became of each frame; those with results that are not finite are left out. InputError for a bad one."""
        clock = StageClock[Stage]()
        layers = [s.draw for s in self.submodules if s.draw is not None]
        for result in run_sequence(
            self.bundle, self.session, self.submodules, scene.frames, self.first_frame, clock, scene.previous
        ):
            for refinement in self.refinements:
                result = refinement.apply(result)
            clock.lap(Stage.POSTPROCESS)
            left_out = False
            try:
                write_result(result, self.folder)
                clock.lap(Stage.WRITE)
                if self.pictures:
                    write_picture(draw_result(result, layers=layers), self.folder / f"{result.frame}.png")
                    clock.lap(Stage.DRAW)
            except CheckFailed:
                left_out = True
            yield FrameRecord.of_result(result, clock.take(), left_out=left_out)
