"""The product of a conversion: a folder with the network in every form, its weights and `bundle.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from toolkit.config import ModelConfig
from toolkit.errors import InputError
from toolkit.files import read_json, sha256_file
from toolkit.outputs import new_file
from toolkit.specs import StateSpec, TensorSpec
from toolkit.text import one_line
from toolkit.wiring import NetworkGraph

FORMAT = 1
MANIFEST = "bundle.json"
FUNCTIONAL_ONNX = "model.onnx"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class SubmoduleRecord:
    """One submodule of a converted network and where it came from.

    `plugin` is a module's dotted name, or a file's name with `plugin_sha256` of its content.
    """

    name: str
    plugin: str
    plugin_sha256: str | None
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class EngineRecord:
    """An engine that was built from the bundle and lies in its folder, with a sidecar that says the rest.

    `target` is what it runs on, in a version of its own, on GPUs of the compute `capabilities`.
    """

    file: str
    sha256: str
    target: str
    version: str
    capabilities: tuple[str, ...]
    precision: str


@dataclass(frozen=True)
class Bundle:
    """A converted network on disk.

    `files` maps a form ("functional", "weights") to its file, `sha256` each file to its digest; `provenance` holds
    checkpoint digest and meta, configuration digest and tool versions; `parity` the outcome of the check at conversion;
    `engines` what was built from it since, the latest last.
    """

    path: Path
    config: ModelConfig
    submodules: tuple[SubmoduleRecord, ...]
    frame_inputs: tuple[TensorSpec, ...]
    state_inputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    results: tuple[TensorSpec, ...]
    wires: tuple[TensorSpec, ...]
    custom_ops: tuple[str, ...]
    files: Mapping[str, str]
    sha256: Mapping[str, str]
    provenance: Mapping[str, Any]
    parity: Mapping[str, Any]
    engines: tuple[EngineRecord, ...] = ()

    @classmethod
    def of_graph(cls, path: Path, graph: NetworkGraph, **rest: Any) -> Bundle:
        """A bundle that describes `graph`."""
        return cls(
            path=path,
            config=graph.config,
            frame_inputs=graph.frame_inputs,
            state_inputs=graph.state_inputs,
            states=graph.states,
            results=graph.results,
            wires=graph.wires,
            **rest,
        )

    @property
    def onnx(self) -> Path:
        return self.path / self.files["functional"]

    @property
    def weights(self) -> Path:
        return self.path / self.files["weights"]

    @property
    def identity(self) -> str:
        """Digest of the files of the conversion, alike for one network and for no other, whatever was built from it."""
        return hashlib.sha256(json.dumps(sorted(self.sha256.items())).encode()).hexdigest()

    def producer(self, tensor: str) -> str:
        """Name of the submodule that produces `tensor`."""
        return next(s.name for s in self.submodules if tensor in s.outputs)

    def digests(self, form: str) -> dict[str, str]:
        """The recorded digest of every file of a form."""
        name = self.files[form]
        return {file: digest for file, digest in self.sha256.items() if file in (name, f"{name}.data")}

    def require_intact(self, form: str) -> None:
        """Raise InputError unless the files of a form are those that were written with the bundle."""
        for file, digest in self.digests(form).items():
            if sha256_file(self.path / file) != digest:
                raise InputError(f"{self.path / file} is not the file that the conversion wrote; convert again")

    def with_engine(self, engine: EngineRecord) -> Bundle:
        """The bundle with one engine more, in place of an earlier one of that name."""
        others = tuple(other for other in self.engines if other.file != engine.file)
        return replace(self, engines=(*others, engine))

    def write(self) -> None:
        """Write `bundle.json` into the bundle's folder, whole or not at all."""
        values = {"format": FORMAT} | {f.name: getattr(self, f.name) for f in fields(self) if f.name != "path"}
        values["config"] = self.config.to_dict()
        for name in ("submodules", "frame_inputs", "state_inputs", "states", "results", "wires", "engines"):
            values[name] = [asdict(item) for item in values[name]]
        if not self.engines:  # as in bundles of versions that built none
            del values["engines"]
        values["digest"] = content_digest(values)
        with new_file(self.path / MANIFEST) as work:
            work.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Bundle:
        """Open a bundle folder. Raises InputError if it is none, is incomplete or edited, or has another format."""
        if not (path / MANIFEST).is_file():
            raise InputError(f"{path} is not a bundle: it has no {MANIFEST}; make one with `uniad-toolkit convert`")
        values = read_json(path / MANIFEST, "convert again")
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise InputError(f"{path / MANIFEST}: format is not {FORMAT}; convert again with this version")
        parts: dict[str, Any] = {}
        for name, read in _READERS.items():
            if name in OPTIONAL and name not in values:
                continue
            if name not in values:
                raise InputError(f"{path / MANIFEST}: field {name!r} is missing; convert again")
            try:
                parts[name] = read(values[name])
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise InputError(
                    f"{path / MANIFEST} is damaged in {name!r}: {one_line(error)}; convert again"
                ) from error
        if parts.pop("digest") != content_digest(values):
            raise InputError(f"{path / MANIFEST} was changed since the conversion; convert again")
        bundle = cls(path=path, **parts)
        for file in sorted({*bundle.files.values(), *bundle.sha256}):
            if not (path / file).is_file():
                raise InputError(f"bundle {path}: file {file} is missing; convert again")
        return bundle


def content_digest(manifest: Mapping[str, Any]) -> str:
    """Digest of everything else in a manifest: an edited one would no longer describe the network beside it."""
    content = {name: value for name, value in manifest.items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _submodules(values: list[dict[str, Any]]) -> tuple[SubmoduleRecord, ...]:
    return tuple(SubmoduleRecord(**v | {"outputs": tuple(v["outputs"])}) for v in values)


def _specs(values: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(**v | {"shape": tuple(v["shape"])}) for v in values)


def _states(values: list[dict[str, Any]]) -> tuple[StateSpec, ...]:
    return tuple(StateSpec(**v) for v in values)


def _engines(values: list[dict[str, Any]]) -> tuple[EngineRecord, ...]:
    return tuple(EngineRecord(**v | {"capabilities": tuple(v["capabilities"])}) for v in values)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "config": ModelConfig.from_dict,
    "submodules": _submodules,
    "frame_inputs": _specs,
    "state_inputs": _specs,
    "states": _states,
    "results": _specs,
    "wires": _specs,
    "custom_ops": tuple,
    "files": dict,
    "sha256": dict,
    "provenance": dict,
    "parity": dict,
    "engines": _engines,
    "digest": str,
}
"""Every field of a manifest but the format, and how its JSON becomes the bundle's value."""

OPTIONAL = ("engines",)
"""Fields that a manifest need not have."""
