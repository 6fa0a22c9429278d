"""Frames in an npz of official tensors, read and checked."""

from __future__ import annotations

import contextlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from toolkit.bridge.parts.arrays import shaped
from toolkit.bridge.parts.environment import BridgeError

INPUTS = {
    "img": (1, None, 3, None, None),
    "img_metas_can_bus": (18,),
    "img_metas_lidar2img": (1, None, 4, 4),
    "timestamp": (1,),
    "l2g_r_mat": (1, 3, 3),
    "l2g_t": (1, 3),
    "use_prev_bev": (1,),
    "command": (1,),
}
"""What a frame holds, and its shapes; None is any length. A model without a planner needs no command."""

UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged npz raises."""


class Frames:
    """The frames of an open npz, each read when it is asked for."""

    def __init__(self, path: str, archive: Any) -> None:
        self.path, self._archive = path, archive
        keys = [key for key in archive.files if ".in." in key]
        matches = [re.match(r"f([0-9]{1,9})\.in\.", key) for key in keys]
        numbers = sorted({-1 if match is None else int(match.group(1)) for match in matches})
        if not numbers or numbers != list(range(len(numbers))) or "f0.in.prev_bev" in keys:
            raise BridgeError(f"{path} must hold frames from 0 on, without a state before the first")
        self.count = len(numbers)

    def frame(self, number: int) -> dict[str, np.ndarray]:
        """Its inputs as a dump has them, but times in float64. Raises BridgeError for what no frame can be."""
        present = f"f{number}.in.command" in self._archive.files
        names = [name for name in INPUTS if present or name != "command"]
        arrays = {name: self._input(f"f{number}.in.{name}", name) for name in names}
        cameras, matrices = arrays["img"].shape[1], arrays["img_metas_lidar2img"].shape[1]
        if cameras != matrices:
            raise BridgeError(f"{self.path}: frame {number} has {cameras} pictures, but {matrices} matrices lidar2img")
        return arrays

    def require_commands(self) -> None:
        """Raises BridgeError if a frame has none."""
        for number in range(self.count):
            self._require(f"f{number}.in.command")

    def _require(self, key: str) -> None:
        if key not in self._archive.files:
            raise BridgeError(f"{self.path} lacks {key}")

    def _input(self, key: str, name: str) -> np.ndarray:
        self._require(key)
        expected = INPUTS[name]
        try:
            array = shaped(self._archive[key], len(expected))
        except UNREADABLE as error:
            raise _unreadable(f"{self.path}: {key}", error) from error
        fits = array.ndim == len(expected) and array.size > 0
        fits = fits and all(asked in (None, array.shape[axis]) for axis, asked in enumerate(expected))
        if not fits:
            shape = ", ".join("n" if length is None else str(length) for length in expected)
            raise BridgeError(f"{self.path}: {key} has shape {array.shape}, not ({shape})")
        if array.dtype.kind not in "fiub":
            raise BridgeError(f"{self.path}: {key} holds {array.dtype}, no numbers")
        with np.errstate(over="ignore"):
            array = array.astype(np.float64 if name == "timestamp" else np.float32)
        if not np.isfinite(array).all():
            raise BridgeError(f"{self.path}: {key} holds numbers that are not finite")
        return array


@contextlib.contextmanager
def open_frames(path: str) -> Iterator[Frames]:
    """An npz whose frames are all read once, and checked, before anything is done with the first."""
    try:
        archive = np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    if not hasattr(archive, "files"):
        raise BridgeError(f"{path} is no npz")
    with archive:
        frames = Frames(path, archive)
        for number in range(frames.count):
            frames.frame(number)
        yield frames


def _unreadable(what: str, error: BaseException) -> BridgeError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return BridgeError(f"{what} cannot be read as npz: {reason}")
