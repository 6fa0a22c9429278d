"""Checkpoints of a run: weights under official keys in the official layout, and what it takes to go on exactly.

`convert` reads them like those of the reference's training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import InputError
from toolkit.storage.outputs import new_file
from toolkit.storage.typed import decode
from toolkit.versions import PACKAGE, package_version
from toolkit.weights.stored import read_stored

EPOCH_FILE = "epoch_{}.pth"
STOPPED_FILE = "stopped.pth"
EPOCH_NAME = re.compile(r"epoch_(\d+)\.pth")


@dataclass(frozen=True)
class Position:
    """How far a run is: whole epochs, steps of the optimiser in all, and clips that the epoch under way has seen."""

    epoch: int = 0
    step: int = 0
    clips: int = 0


def save_checkpoint(
    path: Path,
    weights: Mapping[str, Tensor],
    optimiser: Mapping[str, Any],
    position: Position,
    random_state: Tensor,
    config: Mapping[str, Any],
) -> None:
    """Write a checkpoint, whole or not at all; one of the name that is there is replaced."""
    content = {
        "meta": {
            "epoch": position.epoch,
            "iter": position.step,
            "toolkit": package_version(PACKAGE),
            "training": dict(config),
        },
        "state_dict": {key: value.detach().cpu() for key, value in weights.items()},
        "optimizer": dict(optimiser),
        "position": asdict(position),
        "random_state": random_state,
    }
    with new_file(path) as temporary:
        torch.save(content, temporary)


@dataclass(frozen=True)
class RunCheckpoint:
    """What a run goes on from."""

    path: Path
    state_dict: Mapping[str, Tensor]
    optimiser: dict[str, Any]
    position: Position
    random_state: Tensor


def load_run_checkpoint(path: Path) -> RunCheckpoint:
    """Read a checkpoint of a run. Raises InputError for a file that is damaged, or no such checkpoint."""
    content = read_stored(path).content
    try:
        position = decode(Position, content["position"], root="position", largest=None)
        weights, optimiser, random_state = (content[name] for name in ("state_dict", "optimizer", "random_state"))
        if min(asdict(position).values()) < 0:
            raise ValueError("position is before the first step")
        if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
            raise TypeError("state_dict holds other than tensors")
        if not isinstance(optimiser, dict) or not {"state", "param_groups"} <= optimiser.keys():
            raise TypeError("optimizer holds no state")
        try:
            torch.Generator().set_state(random_state)
        except (TypeError, RuntimeError) as error:
            raise ValueError("random_state is none of PyTorch") from error
        return RunCheckpoint(path, weights, optimiser, position, random_state)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"checkpoint {path} is none of a run that can go on ({error!s:.100}); give it as --init to a new run"
        ) from error


def newest_checkpoint(folder: Path, told: Callable[[str], None] = lambda note: None) -> RunCheckpoint:
    """The checkpoint of a run's folder that is farthest; `told` hears of newer ones that cannot be read.

    Raises InputError if there is none, or none that can be read.
    """
    epochs = {int(match[1]): path for path in folder.iterdir() if (match := EPOCH_NAME.fullmatch(path.name))}
    candidates = [epochs[epoch] for epoch in sorted(epochs, reverse=True)]
    if (folder / STOPPED_FILE).exists():
        candidates.insert(0, folder / STOPPED_FILE)
    if not candidates:
        raise InputError(f"{folder} holds no checkpoint yet; start the run anew with --force")
    loaded: list[RunCheckpoint] = []
    damages: list[InputError] = []
    for path in candidates:
        try:
            loaded.append(load_run_checkpoint(path))
        except InputError as error:
            damages.append(error)
        # Older epochs are only looked at where newer ones cannot be read.
        if loaded and loaded[-1].path.name != STOPPED_FILE:
            break
    if not loaded:
        raise damages[0]
    newest = max(loaded, key=lambda each: each.position.step)
    for damage in damages:
        told(f"{damage}; the run goes on from {newest.path.name}")
    return newest
