"""Motion anchors: the clustered trajectories from which motion forecasting starts (UniAD, section 3.3)."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.config.model import ModelConfig
from toolkit.errors import InputError
from toolkit.storage.regular_file import read_regular, readable_file
from toolkit.storage.untrusted import Array, load_numpy_pickle
from toolkit.text import one_line

MAX_BYTES = 4 * 2**20
"""A real file has a few thousand bytes."""


def load_motion_anchors(path: Path | str, config: ModelConfig) -> np.ndarray:
    """Anchors [groups, modes, steps, 2] float32: x, y in metres in the frame of the agent, every `step_seconds`.

    Reads the official `motion_anchor_infos_mode6.pkl` without running code from it, or a `.npy` file. Raises
    InputError for anything but finite anchors of the shape, and in the class groups, of `config`.
    """
    path = readable_file(path, "motion anchors")
    motion = config.motion
    shape = (len(motion.class_groups), motion.modes, motion.steps, 2)
    try:
        data = read_regular(path, MAX_BYTES)
        parts = _npy_parts(data) if data.startswith(b"\x93NUMPY") else _pickle_parts(data, config)
        if len(parts) != shape[0] or any(part.shape != shape[1:] for part in parts):
            found = [part.shape for part in parts]
            raise ValueError(f"groups of shapes {found}, where the model has {shape[0]} of {shape[1:]}")
        anchors = np.stack(parts).astype(np.float32)
        if not np.isfinite(anchors).all():
            raise ValueError("NaN or infinite values")
    # Foreign bytes can make a parser fail in any way.
    except Exception as error:
        raise InputError(
            f"motion anchors {path} cannot be used: {one_line(error)}; give the official "
            f"motion_anchor_infos_mode6.pkl, or a .npy file of shape {list(shape)}, as --motion-anchors"
        ) from error
    return anchors


def _npy_parts(data: bytes) -> list[np.ndarray]:
    anchors = np.load(io.BytesIO(data), allow_pickle=False)
    if anchors.dtype.kind not in "fiu":
        raise ValueError(f"values of type {anchors.dtype.name}, not real numbers")
    return list(anchors)


def _pickle_parts(data: bytes, config: ModelConfig) -> list[np.ndarray]:
    content: Any = load_numpy_pickle(data)
    if not isinstance(content, dict) or "anchors_all" not in content:
        raise pickle.UnpicklingError("no dict with an entry 'anchors_all'")
    parts = content["anchors_all"]
    if not isinstance(parts, list) or not all(isinstance(part, Array) for part in parts):
        raise pickle.UnpicklingError("'anchors_all' is not a list of arrays")
    groups = [[config.class_names[label] for label in group] for group in config.motion.class_groups]
    if content.get("grouped_classes", groups) != groups:
        raise ValueError(f"'grouped_classes' differs from the groups of the model, {groups}")
    return [part.value for part in parts]
