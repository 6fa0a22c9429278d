"""Official input tensors through a session, with state fed back: the stable interface for comparing conversions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from zipfile import ZipInfo, is_zipfile

import numpy as np

from toolkit.bundle import Bundle
from toolkit.engines.session import Session
from toolkit.errors import InputError
from toolkit.regular_file import open_regular, readable_file
from toolkit.runtime import official_interface as official
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.text import one_line

KEY = re.compile(r"f(\d+)\.in\.(\w+)")
MAX_ARRAY_BYTES = 2**27
"""The images of one frame, the largest input, take 8 MB."""


def read_inputs(path: Path) -> list[dict[str, np.ndarray]]:
    """Official inputs of every frame from an npz with keys ``f{t}.in.NAME``; other keys are ignored.

    Raises InputError for a file that is none, no frames, a gap in the frame numbers, an unknown name, or recurrent
    inputs after frame 0.
    """
    frames: dict[int, dict[str, np.ndarray]] = {}
    try:
        if not is_zipfile(readable_file(path, "inputs")):
            raise ValueError("it is no zip archive")
        with open_regular(path) as file, np.load(file, allow_pickle=False) as archive:
            _check_sizes(path, archive.zip.infolist())
            for key in archive.files:
                if match := KEY.fullmatch(key):
                    number, name = int(match[1]), match[2]
                    _check_name(path, key, name, number)
                    if not official.has_no_effect(name):
                        frames.setdefault(number, {})[name] = archive[key]
    except InputError:
        raise
    # Foreign bytes can make the parsers fail in any way.
    except Exception as error:
        raise InputError(f"{path} is not a readable npz: {one_line(error)}; write it with numpy.savez") from error
    if not frames:
        raise InputError(f"{path} holds no frames; keys are f{{t}}.in.NAME, t contiguous from 0")
    for number in range(len(frames)):
        if number not in frames:
            raise InputError(f"{path}: frame {number} is missing; t must be contiguous from 0")
    return [frames[number] for number in range(len(frames))]


def _check_sizes(path: Path, members: Sequence[ZipInfo]) -> None:
    """Compressed arrays may be any size; these are the ones that would be refused by their shape, but only later."""
    for member in members:
        if member.file_size > MAX_ARRAY_BYTES:
            raise InputError(f"{path}: {member.filename} is larger than {MAX_ARRAY_BYTES} bytes; no input is")


def _check_name(path: Path, key: str, name: str, number: int) -> None:
    if name in official.RECURRENT and number > 0:
        raise InputError(f"{path}: {key}: recurrent inputs are fed back; give them in frame 0 only, to start the state")
    if name not in official.RECURRENT and name not in official.FRAME and not official.has_no_effect(name):
        raise InputError(f"{path}: {key}: unknown input; known are {', '.join(official.FRAME)}")


def replay(
    bundle: Bundle,
    session: Session,
    frames: list[dict[str, np.ndarray]],
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
