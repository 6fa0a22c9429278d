"""The small network that comes with the package, trained on synthetic drives: see docs/training.md."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from toolkit.config.file import load_config
from toolkit.config.model import ModelConfig

MODEL, CHECKPOINT, ANCHORS = "model.toml", "checkpoint.safetensors", "motion_anchors.npy"
_FOLDER = files("toolkit.demo") / "mini"


def trained_config() -> ModelConfig:
    """The network, whose pictures have the size that it was trained with."""
    with as_file(_FOLDER / MODEL) as path:
        return load_config(path)


def copy_trained_weights(folder: Path) -> tuple[Path, Path]:
    """Put its checkpoint and motion anchors into a folder; gives their paths."""
    for name in (CHECKPOINT, ANCHORS):
        (folder / name).write_bytes((_FOLDER / name).read_bytes())
    return folder / CHECKPOINT, folder / ANCHORS
