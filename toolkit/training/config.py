"""How a training goes: stage, clips, optimiser and schedule; from an official config, or a table in TOML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import msgspec

from toolkit.config.check import several_faults
from toolkit.config.file import TRAINING, read_toml
from toolkit.config.official.config import find_absent_heads
from toolkit.config.official.python_config import read_python_config
from toolkit.config.official.training import training_values
from toolkit.errors import InputError
from toolkit.storage.typed import decode

Positive = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Number = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


@dataclass(frozen=True)
class TrainingConfig:
    """A training of one stage. Defaults are those of UniAD-tiny's first stage."""

    stage: Annotated[int, msgspec.Meta(ge=1, le=2)] = 1
    queue_length: Number = 5
    """Frames of a clip."""
    epochs: Number = 6
    learning_rate: Positive = 2e-4
    learning_rate_factors: Mapping[str, float] = field(default_factory=lambda: {"img_backbone": 0.1})
    """For parameters whose name contains the key."""
    weight_decay: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.01
    gradient_norm: Positive = 35.0
    """Gradients are scaled down to this L2 norm of all together."""
    warmup_steps: Annotated[int, msgspec.Meta(ge=0)] = 500
    warmup_ratio: Share = 1 / 3
    """Of the learning rate, in the first step."""
    final_ratio: Share = 1e-3
    """Of the learning rate, towards which it falls along a cosine, epoch by epoch."""
    accumulate: Number = 1
    """Clips of each process for one step of the optimiser."""
    distort_pictures: bool = True
    """Whether the colours of the pictures change at random."""
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0

    def with_setting(self, name: str, value: Any) -> TrainingConfig:
        """With another value. Raises InputError if it cannot be."""
        values = asdict(self) | {name: value}
        return decode(TrainingConfig, values, root="training", largest=None)


FIELDS = frozenset(each.name for each in fields(TrainingConfig))


def load_training_config(path: Path, stage: int | None = None) -> TrainingConfig:
    """The training that a config file describes, of the stage if it is given.

    Raises InputError for what is unreadable, senseless or not supported, and for a file that does not say the stage.
    """
    return from_official_file(path, stage) if path.suffix == ".py" else from_toml(path, stage)


def from_toml(path: Path, stage: int | None) -> TrainingConfig:
    """The table `training` of a TOML file; what it lacks has its default."""
    values = read_toml(path, "config", "see docs/training.md").get(TRAINING, {})
    if not isinstance(values, dict):
        raise InputError(f"config {path}: {TRAINING!r} is no table; see docs/training.md")
    if "stage" not in values and stage is None:
        raise InputError(f"config {path} has no stage in a table [{TRAINING}]; add it, or give --stage 1 or --stage 2")
    try:
        config = decode(TrainingConfig, {"stage": stage} | values, root=TRAINING, largest=None)
    except ValueError as error:
        raise InputError(f"config {path}: {error!s:.300}; see docs/training.md") from error
    return with_stage(config, path, stage)


def from_official_file(path: Path, stage: int | None) -> TrainingConfig:
    """What an official config says of its training."""
    values = read_python_config(path)
    try:
        config = from_official(values)
    except InputError as error:
        raise several_faults(f"config {path}", error.args) from error
    return with_stage(config, path, stage)


def with_stage(config: TrainingConfig, path: Path, stage: int | None) -> TrainingConfig:
    """The config, if it is of the stage. Raises InputError if not."""
    if stage is not None and stage != config.stage:
        raise InputError(f"config {path} is of stage {config.stage}, but --stage is {stage}; leave that out")
    return config


def from_official(values: Mapping[str, Any]) -> TrainingConfig:
    """The training of the names that an official config assigns. Raises InputError that names faulty keys."""
    stated = training_values(values, stage=1 if find_absent_heads(values) else 2)
    try:
        return decode(TrainingConfig, stated, root=TRAINING, largest=None)
    except ValueError as error:
        raise InputError(f"{error!s:.300}") from error
