"""The JSON file beside an engine: what the engine is, which cannot be asked of the engine without the GPU it is for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from toolkit.errors import InputError
from toolkit.storage.files import is_intact
from toolkit.storage.json_file import read_format, refusing
from toolkit.storage.outputs import new_file
from toolkit.storage.regular_file import readable_file
from toolkit.storage.typed import decode

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
    the layers of the network by kind before the builder fused them, `seconds` and `peak_mib` what the build took,
    `checks` what came of comparing the model that TensorRT read with the source, a sentence each; older ones have none.
    `unpacked` is the size in bytes of what TensorRT loads, if the file is packed (`packing.py`), and None if it is not.
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
    checks: tuple[str, ...] = ()
    unpacked: int | None = None

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
        values = read_format(path, FORMAT, "build the engine again")
        with refusing(path, "build the engine again"):
            return decode(cls, values)

    def require_engine(self, engine: Path) -> None:
        """Raise InputError unless the engine file is the one that the sidecar was written with."""
        if not is_intact(readable_file(engine, "engine"), self.sha256, self.bytes):
            raise InputError(f"{engine} is not the engine that its sidecar describes; copy both again, or build again")


def sidecar_path(engine: Path) -> Path:
    return engine.with_name(engine.name + SIDECAR_SUFFIX)


def log_path(engine: Path) -> Path:
    """Where the log of an engine's build is kept."""
    return engine.with_name(engine.name + LOG_SUFFIX)
