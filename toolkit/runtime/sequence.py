"""Frames of a source through a session, to what the network gives or to typed results."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

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
    A `PictureSession` gets pictures as they are decoded; `decoders` are threads that decode ahead, and a frame is then
    prepared while such a session runs the one before. With a `decoder` pictures are those that it makes of files; a
    `DevicePictureSession` takes them where they are. `clock` measures the stages up to the network. Raises InputError
    for a bad frame.
    """
    clock = clock or StageClock[Stage]()
    pictures = session.new_pictures if isinstance(session, PictureSession) else None
    keep = None
    if isinstance(session, DevicePictureSession):
        keep = session.device_pictures
        if decoder is not None and decoders:
            session.make_ready()  # for its device will decode ahead
    device = None if decoder is None else DeviceDecoding(decoder, keep)
    inputs = step_inputs(steps, bundle.config, first_frame, clock, pictures, decoders, device)
    with closing(inputs), closing(_prepared(bundle, session, inputs)) as prepared:
        if decoders and isinstance(session, PictureSession):
            yield from _overlapped(prepared, clock)
            return
        for frame, runner, fed in prepared:
            runner.launch(fed)
            tensors = runner.results()
            clock.lap(Stage.NETWORK)
            yield FrameOutputs.of(frame, tensors, runner.repairs)


_Prepared = tuple[Frame, TemporalRunner, dict[str, Any]]
"""A frame, the runner of its scene, and its inputs in the session's memory."""


def _prepared(
    bundle: Bundle, session: Session, inputs: Iterable[tuple[Frame, dict[str, NDArray[Any]]]]
) -> Generator[_Prepared]:
    scene, runner = None, TemporalRunner(bundle, session)
    for frame, arrays in inputs:
        if frame.scene != scene:
            scene, runner = frame.scene, TemporalRunner(bundle, session)
        yield frame, runner, runner.prepare(arrays)


def _overlapped(prepared: Iterable[_Prepared], clock: StageClock[Stage]) -> Generator[FrameOutputs]:
    """A device runs a frame while the host prepares the next one, and while the outputs of the last are passed on.

    What goes wrong with a frame is raised after the outputs of those before.
    """
    running: _Running | None = None
    try:
        for frame, runner, fed in prepared:
            clock.lap(Stage.NETWORK)
            launched = _Running(frame, runner, clock.take())
            if running is not None:
                running.wait(clock)
            runner.launch(fed)
            launched.charge(clock)
            if running is not None:
                yield running.taken(clock)
            running = launched
    except Exception:
        clock.take()
        if running is not None:
            yield running.taken(clock)
        raise
    if running is not None:
        yield running.taken(clock)


@dataclass(frozen=True, eq=False)
class _Running:
    """A frame that a session runs, and the seconds that went into it so far."""

    frame: Frame
    runner: TemporalRunner
    seconds: dict[Stage, float]

    def wait(self, clock: StageClock[Stage]) -> None:
        """Until its outputs are there."""
        _ = self.outputs
        self.charge(clock)

    @cached_property
    def outputs(self) -> FrameOutputs:
        """Waits for them."""
        return FrameOutputs.of(self.frame, self.runner.results(), self.runner.repairs)

    def taken(self, clock: StageClock[Stage]) -> FrameOutputs:
        """Its outputs; `clock` has its seconds, and none of the next frame's."""
        self.wait(clock)
        clock.give(self.seconds)
        return self.outputs

    def charge(self, clock: StageClock[Stage]) -> None:
        """What has passed since the clock's last lap went into this frame."""
        clock.lap(Stage.NETWORK)
        for stage, passed in clock.take().items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + passed
