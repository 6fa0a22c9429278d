"""Frames of a source through a session, to what the network gives or to typed results."""

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
from toolkit.runtime.interpreter import FrameOutputs, Interpreter
from toolkit.runtime.results import FrameResult
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.specs import Submodule


def run_sequence(
    bundle: Bundle,
    session: Session,
    submodules: Sequence[Submodule],
    frames: Iterable[Frame],
    first_frame: FirstFrame = "evaluation",
    clock: StageClock[Stage] | None = None,
    previous: Frame | None = None,
) -> Iterator[FrameResult]:
    """Preprocess, run with state fed back, and post-process each frame: `run_steps`, interpreted.

    What a scene's first ego motion refers to, by `first_frame`, may be the frame before; `previous` is the one before
    the first. Of `submodules`, those that the bundle has post-process on the host. `clock` measures each stage of a
    frame up to its result.
    """
    clock, interpret = clock or StageClock[Stage](), Interpreter.of(bundle, submodules)
    with closing(run_steps(bundle, session, frame_steps(frames, previous), first_frame, clock)) as outputs:
        for given in outputs:
            result = interpret(given)
            clock.lap(Stage.POSTPROCESS)
            yield result


def run_steps(
    bundle: Bundle,
    session: Session,
    steps: Iterable[FrameStep],
    first_frame: FirstFrame = "evaluation",
    clock: StageClock[Stage] | None = None,
    decoders: int = 0,
    decoder: DeviceDecoder | None = None,
) -> Generator[FrameOutputs]:
    """Preprocess frames, of which each knows the one before it, and run them with state fed back.

    No state passes from one scene to the next, so that each gives the same results alone: track ids start at 0 in each.
    A `PictureSession` gets pictures as they are decoded; `decoders` are threads that decode ahead. With a `decoder`
    pictures are those that it makes of files; a `DevicePictureSession` takes them where they are. `clock` measures the
    stages up to the network. Raises InputError for a bad frame.
    """
    clock = clock or StageClock[Stage]()
    scene, runner = None, TemporalRunner(bundle, session)
    pictures = session.new_pictures if isinstance(session, PictureSession) else None
    keep = session.device_pictures if isinstance(session, DevicePictureSession) else None
    device = None if decoder is None else DeviceDecoding(decoder, keep)
    with closing(step_inputs(steps, bundle.config, first_frame, clock, pictures, decoders, device)) as prepared:
        for frame, inputs in prepared:
            if frame.scene != scene:
                scene, runner = frame.scene, TemporalRunner(bundle, session)
            tensors = runner.step(inputs)
            clock.lap(Stage.NETWORK)
            yield FrameOutputs.of(frame, tensors, runner.repairs)
