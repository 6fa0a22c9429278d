"""The JSON file beside an engine: what the engine is, which cannot be asked of the engine without the GPU it is for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.files import sha256_file
from toolkit.json_file import read_json
from toolkit.outputs import new_file
from toolkit.regular_file import readable_file
from toolkit.text import one_line

FORMAT = 1
ENGINE_SUFFIX = ".engine"
SIDECAR_SUFFIX = ".json"
LOG_SUFFIX = ".log"


@dataclass(frozen=True)
class EngineTensor:
    """An input or output of an engine; `mode` is "input" or "output", an open size -1, `dtype` as numpy names it."""

    name: str
    mode: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class RequiredPlugin:
    """A custom op that must be registered before the engine is loaded, and the toolkit plugin that has it.

    `provider` is a module's dotted name, the name of an entry point, or a file.
    """

    op: str
    provider: str
    nodes: int


@dataclass(frozen=True)
class Sidecar:
    """What an engine was built from and for, and by what.

    `onnx` has the digest of every file of the source model, `capabilities` the GPUs that the engine runs on, `layers`
    the layers of the network by kind before the builder fused them, `seconds` and `peak_mib` what the build took.
    """

    sha256: str
    bytes: int
    onnx: Mapping[str, str]
    target: str
    version: str
    capabilities: tuple[str, ...]
    precision: str
    custom_ops: str
    tensors: tuple[EngineTensor, ...]
    plugins: tuple[RequiredPlugin, ...]
    layers: Mapping[str, int]
    seconds: float
    peak_mib: int
    toolkit: str

    def write(self, engine: Path) -> None:
        """Write the sidecar of an engine file."""
        text = json.dumps({"format": FORMAT} | asdict(self), indent=1) + "\n"
        with new_file(sidecar_path(engine)) as work:
            work.write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, engine: Path) -> Sidecar:
        """The sidecar of an engine file. Raises InputError if there is none, or if it is damaged or of another form."""
        path = sidecar_path(engine)
        if not path.is_file():
            raise InputError(f"{engine} has no sidecar {path.name}; copy both files, or build the engine again")
        values = read_json(path, "build the engine again")
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise InputError(f"{path}: format is not {FORMAT}; build the engine again with this version")
        missing = [field.name for field in fields(cls) if field.name not in values]
        if missing:
            raise InputError(f"{path}: field {missing[0]!r} is missing; build the engine again")
        try:
            return cls(**{field.name: _READERS.get(field.name, _as_it_is)(values[field.name]) for field in fields(cls)})
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} is damaged: {one_line(error)}; build the engine again") from error

    def require_engine(self, engine: Path) -> None:
        """Raise InputError unless the engine file is the one that the sidecar was written with."""
        if sha256_file(readable_file(engine, "engine")) != self.sha256:
            raise InputError(f"{engine} is not the engine that its sidecar describes; copy both again, or build again")


def sidecar_path(engine: Path) -> Path:
    return engine.with_name(engine.name + SIDECAR_SUFFIX)


def log_path(engine: Path) -> Path:
    """Where the log of an engine's build is kept."""
    return engine.with_name(engine.name + LOG_SUFFIX)


def _tensors(values: list[dict[str, Any]]) -> tuple[EngineTensor, ...]:
    return tuple(EngineTensor(**value | {"shape": tuple(value["shape"])}) for value in values)


def _plugins(values: list[dict[str, Any]]) -> tuple[RequiredPlugin, ...]:
    return tuple(RequiredPlugin(**value) for value in values)


def _as_it_is(value: Any) -> Any:
    return value


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "onnx": dict,
    "capabilities": tuple,
    "tensors": _tensors,
    "plugins": _plugins,
    "layers": dict,
}
"""How the JSON of a field becomes its value, where it is not a plain one."""
