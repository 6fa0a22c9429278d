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

    `submodules` are those of the bundle, for their host-side post-processing. Raises InputError for a bad frame.
    """
    runner = TemporalRunner(bundle, session)
    for frame, inputs in sequence_inputs(frames, bundle.config.image):
        results = runner.step(inputs)
        for submodule in submodules:
            if submodule.postprocess is not None:
                results |= submodule.postprocess(results, bundle.config)
        yield frame_result(results, frame, bundle.config)
