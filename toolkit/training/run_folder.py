"""The folder of a run: what it was started with, so that it goes on with the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit.config.file import to_toml
from toolkit.config.model import ModelConfig
from toolkit.errors import InputError
from toolkit.storage.claims import FolderOutput, folder_kind
from toolkit.storage.json_file import read_json
from toolkit.storage.outputs import new_folder
from toolkit.text import quoted
from toolkit.training.config import TrainingConfig
from toolkit.training.settings import Options

KIND = "training"
MODEL_FILE, SETTINGS_FILE = "model.toml", "training.json"
SHOWN = 12
CLIPS_DIGEST = "clips_digest"
"""Setting: of which frames the clips are."""


def settings_of(
    model: ModelConfig,
    training: TrainingConfig,
    options: Options,
    precision: str,
    processes: int,
    quantized: str | None = None,
) -> dict[str, Any]:
    """All that decides about a run besides its data and what it starts from, as plain values.

    `quantized` is the `Bundle.identity` of the quantized bundle whose rounding it is trained with.
    """
    settings = {
        "model": model.to_dict(),
        "training": asdict(training),
        "options": options,
        "precision": precision,
        "processes": processes,
        "quantized": quantized,
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def start_folder(target: FolderOutput, model: ModelConfig, settings: Mapping[str, Any]) -> None:
    """Make the folder of a new run, with its settings as plain values. Raises InputError as `new_folder` does."""
    with new_folder(target) as folder:
        (folder / MODEL_FILE).write_text(to_toml(model), encoding="utf-8")
        (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def require_same_run(path: Path, settings: Mapping[str, Any]) -> None:
    """Raise InputError if the folder is of no run, or of one with other settings than these, which it names."""
    if not path.is_dir() or folder_kind(path) != KIND:
        raise InputError(f"{path} is the folder of no run that could be resumed; leave --resume out to start one")
    stored = read_json(path / SETTINGS_FILE, "start the run anew")
    compared = {name: stored.get(name) for name in settings} if isinstance(stored, Mapping) else stored
    changed = list(differences(compared, settings))
    if changed:
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise InputError(
            f"{path} was started with other settings: {'; '.join(changed[:SHOWN])}{more}. Give the same, or start "
            "a new run with --init and its last checkpoint"
        )


def require_same_clips(path: Path, digest: str) -> None:
    """Raise InputError if the run was started with as many clips of other frames. Older runs do not say of which."""
    stored = read_json(path / SETTINGS_FILE, "start the run anew")
    if isinstance(stored, Mapping) and stored.get(CLIPS_DIGEST, digest) != digest:
        raise InputError(
            f"{path} was started with as many clips, but of other frames; give the same --data, or start a new run "
            "with --init and its last checkpoint"
        )


def differences(stored: Any, given: Any, name: str = "") -> Iterator[str]:
    """Where two trees of plain values differ, such as "training.epochs: 6 -> 8"."""
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        for key in sorted({*stored, *given}):
            place = f"{name}.{key}".lstrip(".")
            yield from differences(stored.get(key), given.get(key), place)
    elif stored != given:
        yield f"{name}: {quoted(stored)} -> {quoted(given)}"
