"""The product of a conversion: a folder with the network in every form, its weights and `bundle.json`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from toolkit.config.check import check_values
from toolkit.config.model import CanBusRotation, ModelConfig, YawConvention
from toolkit.errors import InputError
from toolkit.precision import Precision
from toolkit.specs import StateSpec, StateTable, TensorSpec
from toolkit.storage.files import is_file_name, is_intact
from toolkit.storage.json_file import read_format, refusing
from toolkit.storage.outputs import new_file
from toolkit.storage.typed import Misfit, completed, decode
from toolkit.text import quoted, shown
from toolkit.wiring import NetworkGraph

FORMAT = 2
MANIFEST = "bundle.json"
FUNCTIONAL_ONNX = "model.onnx"
WEIGHTS = "weights.safetensors"
EARLIER = {
    "can_bus_rotation": CanBusRotation.QUATERNION.value,
    "yaw_convention": YawConvention.CLOCKWISE.value,
}
"""What a bundle means whose configuration does not say it: the versions that wrote such knew nothing else."""
MAX_ELEMENTS = 2**28
"""Of a tensor; the largest of UniAD have a tenth."""


TensorForm = tuple[str, tuple[int, ...]]
"""dtype and shape of a tensor."""


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
class PackageRecord:
    """The package that an installed `plugin` comes from; `sha256` is of its module's files."""

    plugin: str
    name: str
    version: str
    sha256: str


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

    `files` maps a form ("functional", "weights") to its file, `sha256` each file to its digest, `sizes` to its bytes,
    which earlier versions did not record; `provenance` holds checkpoint digest and meta, configuration digest and tool
    versions; `parity` the outcome of the check at conversion; `engines` what was built from it since, the latest last;
    `packages` the installed ones whose plugins it was made with.
    """

    path: Path
    config: ModelConfig
    submodules: tuple[SubmoduleRecord, ...]
    frame_inputs: tuple[TensorSpec, ...]
    state_inputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    results: tuple[TensorSpec, ...]
    wires: tuple[TensorSpec, ...]
    tables: tuple[StateTable, ...]
    custom_ops: tuple[str, ...]
    files: Mapping[str, str]
    sha256: Mapping[str, str]
    provenance: Mapping[str, Any]
    parity: Mapping[str, Any]
    engines: tuple[EngineRecord, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    packages: tuple[PackageRecord, ...] = ()

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
            tables=graph.tables,
            **rest,
        )

    @property
    def onnx(self) -> Path:
        return self.path / self._file("functional")

    @property
    def weights(self) -> Path:
        return self.path / self._file("weights")

    @property
    def quantization(self) -> Mapping[str, Any] | None:
        """How the ONNX model was quantized, in short; None if it was not (`toolkit.quantization.record` has it all)."""
        found = self.provenance.get("quantization")
        return found if isinstance(found, Mapping) else None

    @property
    def precision(self) -> str:
        """What the ONNX model computes in; the weights are always in FP32."""
        return str(self.quantization.get("mode")) if self.quantization is not None else Precision.FP32.value

    @property
    def identity(self) -> str:
        """Digest of configuration and files of the conversion, whatever was built from it.

        It is alike for one network, fed and read in one way, and for no other.
        """
        content = [self.config.to_dict(), sorted(self.sha256.items())]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Everything that submodules produce, results first."""
        return self.results + self.wires

    def producer(self, tensor: str) -> str:
        """Name of the submodule that produces `tensor`."""
        return next(s.name for s in self.submodules if tensor in s.outputs)

    def digests(self, form: str) -> dict[str, str]:
        """The recorded digest of every file of a form."""
        name = self._file(form)
        return {file: digest for file, digest in self.sha256.items() if file in (name, f"{name}.data")}

    def is_intact(self, file: str) -> bool:
        """Whether a file is the one that was written with the bundle."""
        return is_intact(self.path / file, self.sha256[file], self.sizes.get(file))

    def require_intact(self, form: str) -> None:
        """Raise InputError unless the files of a form are those that were written with the bundle."""
        for file in self.digests(form):
            if not self.is_intact(file):
                raise InputError(f"{self.path / file} is not the file that the conversion wrote; convert again")

    def require_interface(
        self, inputs: Mapping[str, TensorForm], outputs: Mapping[str, TensorForm], *, wires: bool = False
    ) -> None:
        """Raise InputError unless a network takes no other inputs than the bundle records, and gives its results.

        With `wires`, it gives these too. A network may leave out an input that has no effect.
        """
        dimensions = self.config.dimensions()
        given = {s.name: (s.dtype, s.resolve(dimensions)) for s in (*self.frame_inputs, *self.state_inputs)}
        wanted = {s.name: (s.dtype, s.resolve(dimensions)) for s in (self.outputs if wires else self.results)}
        misfits = [name for name, form in inputs.items() if given.get(name) != form]
        misfits += [name for name, form in wanted.items() if outputs.get(name) != form]
        if misfits:
            raise InputError(
                f"bundle {self.path}: its network and its {MANIFEST} do not agree about the tensor "
                f"{quoted(misfits[0])}; convert again"
            )

    def with_engine(self, engine: EngineRecord) -> Bundle:
        """The bundle with one engine more, in place of an earlier one of that name."""
        others = tuple(other for other in self.engines if other.file != engine.file)
        return replace(self, engines=(*others, engine))

    def write(self) -> None:
        """Write `bundle.json` into the bundle's folder, whole or not at all."""
        values = {"format": FORMAT} | asdict(self)
        del values["path"]
        for name in ("engines", "sizes", "packages"):  # bundles of earlier versions have none of them
            if not values[name]:
                del values[name]
        values["digest"] = content_digest(values)
        with new_file(self.path / MANIFEST) as work:
            work.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path, warn: Callable[[str], None] = lambda _: None) -> Bundle:
        """Open a bundle folder. Raises InputError if it is none, is incomplete or edited, or has another format.

        `warn` is told of one that does not say all that it means (`EARLIER`).
        """
        manifest = path / MANIFEST
        if not manifest.is_file():
            raise InputError(f"{path} is not a bundle: it has no {MANIFEST}; make one with `uniad-toolkit convert`")
        values = read_format(manifest, FORMAT, "convert again")
        with refusing(manifest, "convert again", "is damaged in {field!r}"):
            if "digest" not in values:
                raise Misfit("$", "field 'digest' is missing")
            content = {name: value for name, value in values.items() if name != "digest"}
            bundle = decode(cls, completed(_with_conventions(content), "$", path=path))
            _require_file_names(bundle)
            _require_sense(bundle)
            _require_states(bundle)
        if values["digest"] != content_digest(values | {"format": FORMAT}):
            raise InputError(f"{manifest} was changed since the conversion: $.digest does not fit; convert again")
        for file in sorted({*bundle.files.values(), *bundle.sha256}):
            if not (path / file).is_file():
                raise InputError(f"bundle {path}: file {shown(file)} is missing; convert again")
        if unsaid := {name: value for name, value in EARLIER.items() if name not in values["config"]}:
            warn(
                f"{manifest} does not say {' and '.join(unsaid)}: it is run as {' and '.join(unsaid.values())}, as "
                "before; for weights of UniAD v1 and UniAD-tiny, which learned another rotation, convert again"
            )
        return bundle

    def _file(self, form: str) -> str:
        if form not in self.files:
            raise InputError(f"bundle {self.path} does not hold the form {form!r} of its network; convert again")
        return self.files[form]


def content_digest(manifest: Mapping[str, Any]) -> str:
    """Digest of everything else in a manifest: an edited one would no longer describe the network beside it."""
    content = {name: value for name, value in manifest.items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _with_conventions(content: dict[str, Any]) -> dict[str, Any]:
    """A manifest's content whose configuration, as far as it is one, says what it left unsaid."""
    config = content.get("config")
    return content | {"config": EARLIER | config} if isinstance(config, dict) else content


def _require_file_names(bundle: Bundle) -> None:
    """Raise Misfit for a path that would lead out of the bundle, or could not be one."""
    names = {f"$.files.{form}": name for form, name in bundle.files.items()}
    names |= {f"$.engines[{i}].file": engine.file for i, engine in enumerate(bundle.engines)}
    for place, name in (*names.items(), *(("$.sha256", name) for name in bundle.sha256)):
        if not is_file_name(name):
            raise Misfit(place, f"expected the name of a file in the bundle, found {quoted(name)}")


def _require_sense(bundle: Bundle) -> None:
    """Raise Misfit for a configuration or tensors with which there can be no network."""
    try:
        check_values(bundle.config)
    except InputError as error:
        raise Misfit("$.config", str(error)) from error
    produced = {tensor for submodule in bundle.submodules for tensor in submodule.outputs}
    for name in ("frame_inputs", "state_inputs", "results", "wires"):
        for i, spec in enumerate(getattr(bundle, name)):
            place = f"$.{name}[{i}]"
            try:
                shape = spec.resolve(bundle.config.dimensions())
            except ValueError as error:
                raise Misfit(f"{place}.shape", str(error)) from error
            if min(shape, default=1) < 0 or math.prod(shape) > MAX_ELEMENTS:
                raise Misfit(f"{place}.shape", f"expected at most {MAX_ELEMENTS} elements, found {quoted(shape)}")
            if name in ("results", "wires") and spec.name not in produced:
                raise Misfit(f"{place}.name", f"{quoted(spec.name)} is the output of no submodule")
    state_inputs = {spec.name for spec in bundle.state_inputs}
    for i, table in enumerate(bundle.tables):
        for name in (table.count, table.next_id):
            if name not in state_inputs:
                raise Misfit(f"$.tables[{i}]", f"{quoted(name)} is no state input")
        for name in (table.rows, table.fresh):
            if name not in bundle.config.dimensions():
                raise Misfit(f"$.tables[{i}]", f"{quoted(name)} is no dimension")


def _require_states(bundle: Bundle) -> None:
    """Raise Misfit unless every state input follows a tensor of its form, and every state one that there is."""
    state_inputs = {spec.name: spec for spec in bundle.state_inputs}
    sources = {spec.name: spec for spec in (*bundle.frame_inputs, *bundle.results)}
    for i, state in enumerate(bundle.states):
        place = f"$.states[{i}]"
        if state.source not in sources:
            raise Misfit(f"{place}.source", f"{quoted(state.source)} is neither a result nor a frame input")
        target, source = state_inputs.get(state.input), sources[state.source]
        if target is not None and (target.shape, target.dtype) != (source.shape, source.dtype):
            raise Misfit(place, f"{quoted(state.input)} and {quoted(state.source)} differ in shape or dtype")
    followers = {state.input for state in bundle.states}
    for i, name in enumerate(state_inputs):
        if name not in followers:
            raise Misfit(f"$.state_inputs[{i}]", f"{quoted(name)} follows no tensor")
