"""Clips: a few frames in a row with their ground truth, the last of which is the present."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.training.spec import Tensors


@dataclass(frozen=True)
class ClipFrame:
    """A frame's inputs under the names of `FRAME_INPUTS`, and its ground truth by name."""

    inputs: Tensors
    truth: Tensors


@dataclass(frozen=True)
class Clip:
    """Frames in the order of time, without a gap."""

    name: str
    frames: tuple[ClipFrame, ...]
