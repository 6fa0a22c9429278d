"""Dumps as a training's environment would write them, of a bundle's own network."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from toolkit.bundle import Bundle
from toolkit.data.probe import probe_frames
from toolkit.engines.session import Session
from toolkit.reference_interface.replay import output_keys, replay
from toolkit.reference_interface.tensors import FRAME

Arrays = dict[str, Any]


def probe_inputs(bundle: Bundle, frames: int) -> list[Arrays]:
    """Made-up frames of one scene under their official names."""
    probe = probe_frames(bundle.config, frames, scene_change=frames)
    return [{name: frame[ours] for name, ours in FRAME.items()} for frame in probe]


def dump_arrays(bundle: Bundle, session: Session, frames: list[Arrays], **meta: object) -> Arrays:
    """Inputs and outputs of `frames`, and `meta` if there is any."""
    arrays: Arrays = {"meta": np.array(json.dumps(meta))} if meta else {}
    for number, (frame, outputs) in enumerate(zip(frames, replay(bundle, session, frames), strict=True)):
        arrays |= {f"f{number}.in.{name}": array for name, array in frame.items()} | output_keys(number, outputs)
    return arrays
