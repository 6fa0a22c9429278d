"""Official input tensors through a session, with state fed back: the stable interface for comparing conversions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from toolkit.bundle import Bundle
from toolkit.engines.session import Session
from toolkit.errors import InputError
from toolkit.reference_interface import tensors as official
from toolkit.reference_interface.frame_file import OfficialFrames, read_frames
from toolkit.runtime.temporal_runner import TemporalRunner

KEY = re.compile(r"f([0-9]+)\.in\.(\w+)")


def read_inputs(path: Path) -> OfficialFrames:
    """Official inputs of every frame from an npz with keys ``f{t}.in.NAME``; other keys are ignored.

    Raises InputError for a file that is none, no frames, a gap in the frame numbers, an unknown name, recurrent inputs
    after frame 0, or more data than inputs have; for data that are damaged, when the frame is read.
    """

    def admit(key: str, name: str, number: int) -> bool:
        if official.has_no_effect(name):
            return False
        _check_name(path, key, name, number)
        return True

    frames = read_frames(path, KEY, admit)
    if not frames:
        raise InputError(f"{path} holds no frames; keys are f{{t}}.in.NAME, t contiguous from 0")
    return frames


def _check_name(path: Path, key: str, name: str, number: int) -> None:
    if name in official.RECURRENT and number > 0:
        raise InputError(f"{path}: {key}: recurrent inputs are fed back; give them in frame 0 only, to start the state")
    if name not in official.RECURRENT and name not in official.FRAME and not official.has_no_effect(name):
        raise InputError(f"{path}: {key}: unknown input; known are {', '.join(official.FRAME)}")


def replay(
    bundle: Bundle,
    session: Session,
    frames: Iterable[Mapping[str, np.ndarray]],
    source: str = "",
) -> Iterator[dict[str, np.ndarray]]:
    """Official outputs of each frame, state fed back as the network gives it.

    Raises InputError, which begins with `source`, for tensors that do not fit.
    """
    runner = TemporalRunner(bundle, session, guarded=False)
    names = [spec.name for spec in bundle.results]
    for number, inputs in enumerate(frames):
        where = f"{source}f{number}.in."
        if number == 0 and any(name in inputs for name in official.RECURRENT):
            runner.start(official.state_inputs(inputs, bundle, where))
        frame = official.frame_inputs(inputs, bundle, where)
        yield official.outputs(runner.step(frame, names), frame)


def output_keys(number: int, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of one frame under their ``f{t}.out.NAME`` keys."""
    return {f"f{number}.out.{name}": array for name, array in outputs.items()}
