"""Model configurations as files: official Python configs are read, the toolkit's own TOML is read and written."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from toolkit.config.check import check_values, several_faults
from toolkit.config.model import ModelConfig
from toolkit.config.official.config import load_official_config
from toolkit.config.official.python_config import files_of_python_config
from toolkit.errors import InputError
from toolkit.storage.regular_file import open_regular, readable_file
from toolkit.storage.typed import decode

TRAINING = "training"
"""The table that says how the model is trained; see `toolkit.training.config`."""
MAX_BYTES = 2**16
MAX_DOTS = 1000
"""In a line. Python's parser of TOML takes time and memory by the square of the parts of a dotted key."""


def load_config(path: Path | str) -> ModelConfig:
    """The configuration in a TOML file of the toolkit, or in an official Python config.

    Fields that a TOML file does not have keep their defaults. Raises InputError that names the file, and the field or
    line, for what is unreadable, unknown, unsupported or senseless.
    """
    path = Path(path)
    if path.suffix not in (".py", ".toml"):
        raise InputError(f"config {path} ends neither in .py (an official config) nor in .toml; give one of these")
    config = load_official_config(path) if path.suffix == ".py" else load_toml(path)
    try:
        check_values(config)
    except InputError as error:
        raise several_faults(f"config {path}", error.args) from error
    return config


def config_files(path: Path) -> list[Path]:
    """The files that a configuration is read from: itself, and those that an official one is based on.

    Raises InputError as `load_config` does.
    """
    return files_of_python_config(path) if path.suffix == ".py" else [path]


def load_toml(path: Path) -> ModelConfig:
    """The configuration in a TOML file. Raises InputError."""
    values = read_toml(path, "config", "see docs/configs.md")
    values.pop(TRAINING, None)
    try:
        return decode(ModelConfig, values, root="config", largest=None)
    except ValueError as error:
        raise InputError(f"config {path}: {error!s:.300}; see docs/configs.md") from error


def read_toml(path: Path, kind: str, remedy: str) -> dict[str, Any]:
    """The values of a TOML file of a kind, such as "config". Raises InputError, which ends with the remedy."""
    with open_regular(readable_file(path, kind)) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"{kind} {path} is larger than {MAX_BYTES} bytes; {remedy}")
    if any(line.count(b".") > MAX_DOTS for line in data.splitlines()):
        raise InputError(f"{kind} {path}: a line has more than {MAX_DOTS} dots; {remedy}")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{kind} {path}: {error!s:.300}; {remedy}") from error


def to_toml(config: ModelConfig) -> str:
    """Every field of the configuration as TOML, a table for each part of the model; `load_config` inverts it."""
    values = config.to_dict()
    plain = {name: value for name, value in values.items() if not isinstance(value, dict)}
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    sections = [assignments(plain), *(f"[{name}]\n{assignments(table)}" for name, table in tables.items())]
    return "\n".join(sections)


def assignments(values: dict[str, Any]) -> str:
    """``name = value`` lines. Numbers, strings and lists are written in JSON as in TOML."""
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())
