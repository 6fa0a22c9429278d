"""Frames of a source through a session to typed results."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing

from toolkit.bundle import Bundle
from toolkit.data.device_decoding import DeviceDecoder, DeviceDecoding
from toolkit.data.ego_motion import FirstFrame
from toolkit.data.frames import Frame
from toolkit.data.sequence import FrameStep, frame_steps, step_inputs
from toolkit.data.stage_clock import Stage, StageClock
from toolkit.engines.session import DevicePictureSession, PictureSession, Session
from toolkit.runtime.results import FrameResult, frame_result
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.specs import Interpretation, Submodule


def run_sequence(
    bundle: Bundle,
    session: Session,
    submodules: Sequence[Submodule],
    frames: Iterable[Frame],
    first_frame: FirstFrame = "evaluation",
    clock: StageClock[Stage] | None = None,
    previous: Frame | None = None,
) -> Iterator[FrameResult]:
    """Preprocess, run with state fed back, and post-process each frame.

    No state passes from one scene to the next, so that each gives the same results alone: track ids start at 0 in each.
    What a scene's first ego motion refers to, by `first_frame`, may be the frame before; `previous` is the one before
    the first. Of `submodules`, those that the bundle has post-process on the host. `clock` measures each stage of a
    frame up to its result. A `PictureSession` gets pictures as they are decoded. Raises InputError for a bad frame.
    """
    return run_steps(bundle, session, submodules, frame_steps(frames, previous), first_frame, clock)


def run_steps(
    bundle: Bundle,
    session: Session,
    submodules: Sequence[Submodule],
    steps: Iterable[FrameStep],
    first_frame: FirstFrame = "evaluation",
    clock: StageClock[Stage] | None = None,
    decoders: int = 0,
    decoder: DeviceDecoder | None = None,
) -> Generator[FrameResult]:
    """The same of steps, of which each knows the frame before it; `decoders` are threads that decode pictures ahead.

    With a `decoder` pictures are those that it makes of files; a `DevicePictureSession` takes them where they are.
    """
    clock = clock or StageClock[Stage]()
    names = {record.name for record in bundle.submodules}
    postprocesses = [s.postprocess for s in submodules if s.name in names and s.postprocess is not None]
    interpretations = interpretations_of(bundle, submodules)
    scene, runner = None, TemporalRunner(bundle, session)
    pictures = session.new_pictures if isinstance(session, PictureSession) else None
    keep = session.device_pictures if isinstance(session, DevicePictureSession) else None
    device = None if decoder is None else DeviceDecoding(decoder, keep)
    with closing(step_inputs(steps, bundle.config, first_frame, clock, pictures, decoders, device)) as prepared:
        for frame, inputs in prepared:
            if frame.scene != scene:
                scene, runner = frame.scene, TemporalRunner(bundle, session)
            results = runner.step(inputs)
            clock.lap(Stage.NETWORK)
            for postprocess in postprocesses:
                results |= postprocess(results, bundle.config)
            result = frame_result(results, frame, bundle.config, interpretations, runner.repairs)
            clock.lap(Stage.POSTPROCESS)
            yield result


def interpretations_of(bundle: Bundle, submodules: Iterable[Submodule]) -> list[Interpretation]:
    """Those of the submodules, in the order in which the bundle produces what they need.

    Also of submodules that the bundle has others in place of: what these give under the same names means the same.
    """
    made = {tensor: i for i, record in enumerate(bundle.submodules) for tensor in record.outputs}

    def last_made(interpretation: Interpretation) -> int:
        return max((made[name] for name in interpretation.needs if name in made), default=-1)

    return sorted((s.interpretation for s in submodules if s.interpretation is not None), key=last_made)
