"""The losses of one clip."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from toolkit.bridge.parts.clip import clip_arrays
from toolkit.bridge.parts.environment import (
    BridgeError,
    exact_arithmetic,
    half_precision,
    require_new,
    unwrapped,
    whole_file,
    world,
)
from toolkit.bridge.parts.origin import of_command_line, origin_of
from toolkit.bridge.parts.wraps import wrap


def dump_losses(model: Any, data: dict[str, Any], path: str, config: Any = None, checkpoint: str | None = None) -> None:
    """Write the losses that `train_step` gives for one clip as JSON, with dropout and all other draws of the model off.

    Beside it, under the same name with .npz, is the clip as the model took it. `model` takes `data` as it does in
    training, so wrapped as there; afterwards it is as it was before. What the loader draws, such as the pictures'
    augmentation, is in `data` already. Raises BridgeError for a model in half precision, for outputs that are there
    already, and in several processes, whose losses are means over their clips.
    """
    path = os.fspath(path)
    stem, suffix = os.path.splitext(path)
    if suffix != ".json":
        raise BridgeError(f"losses are written as JSON: {path} must end in .json; the clip goes beside it, to .npz")
    clip_path = stem + ".npz"
    inner = unwrapped(model)
    if world() > 1:
        raise BridgeError("losses of one clip need one process; start this script without a launcher, or with one rank")
    half = half_precision(inner)
    if half is not None:
        raise BridgeError(half)
    for output in (path, clip_path):
        require_new(output)
    exact_arithmetic(tf32=False)
    origin = origin_of(inner, config or of_command_line(".py"), checkpoint or of_command_line(".pth"), fp16=False)
    buffers = {name: buffer.detach().clone() for name, buffer in inner.named_buffers()}
    modes = {module: module.training for module in inner.modules()}
    clip: dict[str, Any] = {}
    restore = wrap(inner, "forward_train", lambda given: clip.update(clip_arrays(given)))
    try:
        with without_randomness(inner) as switched_off, torch.no_grad():
            inner.train()
            losses = {name: float(value) for name, value in model.train_step(data, None)["log_vars"].items()}
    finally:
        restore()
        for module, mode in modes.items():
            module.training = mode
        for name, buffer in inner.named_buffers():
            buffer.copy_(buffers[name])
    written = {
        "stage": 1 if getattr(inner, "motion_head", None) is None else 2,
        "dtype": "f32",
        "total": losses["loss"],
        "losses": losses,
        "randomness_off": switched_off,
        "meta": origin,
    }
    with whole_file(clip_path) as file:
        np.savez(file, **clip)
    with whole_file(path) as file:
        file.write(json.dumps(written, indent=1).encode())
    print(f"uniad_bridge: wrote {len(losses)} losses: {path}, and their clip: {clip_path}")


@contextlib.contextmanager
def without_randomness(model: Any) -> Iterator[list[tuple[str, str]]]:
    """Until the end of the block the model draws nothing; gives what is switched off, and the values it had."""
    switches: list[tuple[Any, str, str, float]] = [(model, "use_grid_mask", "use_grid_mask", False)]
    if hasattr(model, "query_interact"):
        switches += [
            (model.query_interact, name, f"query_interact.{name}", 0.0) for name in ("random_drop", "fp_ratio")
        ]
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            switches.append((module, "p", f"{name}.p", 0.0))
        elif isinstance(module, torch.nn.MultiheadAttention):
            switches.append((module, "dropout", f"{name}.dropout", 0.0))
    random = [(*switch, getattr(switch[0], switch[1])) for switch in switches if getattr(switch[0], switch[1], None)]
    try:
        for owner, name, _, off, _ in random:
            setattr(owner, name, off)
        yield [(shown, str(value)) for _, _, shown, _, value in random]
    finally:
        for owner, name, _, _, value in random:
            setattr(owner, name, value)
