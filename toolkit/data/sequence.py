"""The inputs of frames, one after the other."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import tee
from typing import Any

from numpy.typing import NDArray

from toolkit.config.model import ModelConfig
from toolkit.data.decoding import NewPictures, decoded_frames
from toolkit.data.device_decoding import DeviceDecoding
from toolkit.data.ego_motion import FirstFrame
from toolkit.data.frames import Frame
from toolkit.data.preprocess import frame_inputs
from toolkit.data.stage_clock import Stage, StageClock


@dataclass(frozen=True, eq=False)
class FrameStep:
    """A frame, and the one that its ego motion may refer to: the one before it, of whatever scene, if any."""

    frame: Frame
    previous: Frame | None


def frame_steps(frames: Iterable[Frame], previous: Frame | None = None) -> Iterator[FrameStep]:
    """Frames that follow each other; `previous` is the one before the first, if any."""
    for frame in frames:
        yield FrameStep(frame, previous)
        previous = frame


def sequence_inputs(
    frames: Iterable[Frame],
    config: ModelConfig,
    first_frame: FirstFrame = "evaluation",
    clock: StageClock[Stage] | None = None,
    previous: Frame | None = None,
    pictures: NewPictures | None = None,
) -> Iterator[tuple[Frame, dict[str, NDArray[Any]]]]:
    """Every frame with its inputs, each prepared when asked for: `step_inputs` of `frame_steps`."""
    return step_inputs(frame_steps(frames, previous), config, first_frame, clock, pictures)


def step_inputs(
    steps: Iterable[FrameStep],
    config: ModelConfig,
    first_frame: FirstFrame = "evaluation",
    clock: StageClock[Stage] | None = None,
    pictures: NewPictures | None = None,
    decoders: int = 0,
    device: DeviceDecoding | None = None,
) -> Generator[tuple[Frame, dict[str, NDArray[Any]]]]:
    """Every frame with its inputs; `clock` measures how long both stages of that take, wherever.

    `pictures` makes memory for the pictures of a frame, if they are wanted as they are. With `decoders`, so many
    threads decode pictures ahead (`toolkit.data.decoding`), which `device` decodes, if given. Raises InputError for a
    bad frame, in its turn.
    """
    clock = clock or StageClock()
    steps, again = tee(steps)
    ahead = decoded_frames((step.frame for step in again), config.image, pictures, decoders, device)
    with closing(ahead) as decoded:
        for step, loaded in zip(steps, decoded, strict=True):
            if decoders:
                clock.skip()
                clock.add(Stage.LOAD, loaded.seconds)
            else:
                clock.lap(Stage.LOAD)
            memory = loaded.memory
            inputs = frame_inputs(
                loaded.frame, step.previous, config, first_frame, None if memory is None else memory.array
            )
            clock.lap(Stage.PREPROCESS)
            yield step.frame, inputs
