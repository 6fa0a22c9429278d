"""A clip from a file of arrays, under the names of the reference's data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolkit.config.model import ModelConfig
from toolkit.errors import InputError
from toolkit.reference_interface.tensors import fit
from toolkit.specs import frame_input
from toolkit.storage.npz import read_npz
from toolkit.training.clip import Clip, ClipFrame

MOST_BYTES = 2**31
"""The images of five frames of UniAD-base have a quarter."""
INPUTS = {
    "img": "image",
    "can_bus": "can_bus",
    "lidar2img": "lidar2img",
    "l2g_r_mat": "l2g_rotation",
    "l2g_t": "l2g_translation",
    "timestamp": "timestamp",
}
"""Official names and ours. `lidar2img` may be one for all frames, the others are one a frame."""
COMMAND = "command"
"""Of the last frame, or one a frame; where nothing is planned a clip has none."""
AHEAD = ("gt_future_boxes", "gt_future_labels")
"""Counted by steps from the last frame on; all other names with a number are counted by frames."""
TYPES = ("bool", "uint8", "int16", "int32", "int64", "float32", "float64")
Array = NDArray[Any]


class Truth(dict[str, Tensor]):
    """A frame's ground truth. A name that it lacks is an InputError, which begins with `where`."""

    def __init__(self, where: str, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.where = where

    def __missing__(self, name: str) -> Tensor:
        raise InputError(f"{self.where} has no {name}; add it to the clip, or leave out what reads it")


def read_clip(path: Path, config: ModelConfig, dtype: torch.dtype) -> Clip:
    """The clip in an npz file: a key of `INPUTS` for each input, with a row a frame, and ground truth.

    Ground truth of frame k is called ``NAME.k``; what has no number, or is in `AHEAD`, is that of the last frame.
    Floating-point inputs become `dtype`, ground truth keeps its type. Raises InputError for what is no clip.
    """
    arrays = read_npz(path, "arrays of a clip", MOST_BYTES)
    for name, array in arrays.items():
        if array.dtype.name not in TYPES:
            raise InputError(f"{path}: {name} is of type {array.dtype}; a clip has {', '.join(TYPES)}")
    images = arrays.get("img")
    if images is None or images.ndim != 5 or not len(images):
        raise InputError(f"{path}: img must be there, of shape [frames, cameras, 3, height, width]")
    count = len(images)
    inputs = _inputs(path, arrays, count, config, dtype)
    truth = _truth(path, {name: a for name, a in arrays.items() if name not in (*INPUTS, COMMAND)}, count)
    return Clip(path.name, tuple(ClipFrame(*pair) for pair in zip(inputs, truth, strict=True)))


def _inputs(
    path: Path, arrays: Mapping[str, Array], count: int, config: ModelConfig, dtype: torch.dtype
) -> list[dict[str, Tensor]]:
    frames: list[dict[str, Tensor]] = [
        {"use_previous": torch.tensor([int(index > 0)], dtype=torch.int32)} for index in range(count)
    ]
    names = INPUTS | ({COMMAND: COMMAND} if COMMAND in arrays else {})
    for official, ours in names.items():
        if official not in arrays:
            raise InputError(f"{path}: {official} is missing; it holds {frame_input(ours).meaning}")
        spec = frame_input(ours)
        shape = spec.resolve(config.dimensions())
        kind = str(dtype).removeprefix("torch.") if spec.dtype == "float32" else spec.dtype
        for index, array in enumerate(_by_frame(arrays[official], shape, count)):
            frames[index][ours] = torch.from_numpy(fit(array, shape, kind, f"{path}: {official} of frame {index}"))
    for frame in frames:
        if COMMAND in frame and not 0 <= int(frame[COMMAND]) < config.planning.commands:
            raise InputError(f"{path}: command must lie between 0 and {config.planning.commands - 1}")
    return frames


def _by_frame(array: Array, shape: Sequence[int], count: int) -> Sequence[Array]:
    """A row a frame, or the same for all."""
    own = array.ndim > 0 and len(array) == count and array.shape[1:] in (tuple(shape), tuple(shape[1:]))
    return list(array) if own else [array] * count


def _truth(path: Path, arrays: Mapping[str, Array], count: int) -> list[Truth]:
    frames = [Truth(f"{path}: frame {index}", {}) for index in range(count)]
    for key, array in arrays.items():
        tensor = torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))
        name, _, number = key.rpartition(".")
        if not name or name in AHEAD:
            frames[-1][key] = tensor
        elif number in map(str, range(count)):
            frames[int(number)][name] = tensor
        else:
            raise InputError(f"{path}: {key} is of no frame; img has {count} of them, counted from 0")
    return frames
