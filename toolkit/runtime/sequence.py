"""Frames of a source through a session to typed results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from toolkit.bundle import Bundle
from toolkit.data.frames import Frame, FrameSource
from toolkit.data.preprocess import sequence_inputs
from toolkit.engines.session import Session
from toolkit.runtime.results import FrameResult, frame_result
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.specs import Submodule


def run_sequence(
    bundle: Bundle, session: Session, submodules: Sequence[Submodule], frames: FrameSource | Sequence[Frame]
) -> Iterator[FrameResult]:
    """Preprocess, run with state fed back, and post-process each frame.

    Of `submodules`, those that the bundle has post-process on the host. Raises InputError for a bad frame.
    """
    names = {record.name for record in bundle.submodules}
    postprocesses = [s.postprocess for s in submodules if s.name in names and s.postprocess is not None]
    runner = TemporalRunner(bundle, session)
    for frame, inputs in sequence_inputs(frames, bundle.config.image):
        results = runner.step(inputs)
        for postprocess in postprocesses:
            results |= postprocess(results, bundle.config)
        yield frame_result(results, frame, bundle.config, runner.repairs)
