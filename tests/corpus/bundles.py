"""Malformed bundles: an edited manifest, and files that are missing, damaged or those of another bundle."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from safetensors.torch import load_file, save_file

from tests.corpus.case import Malformed, Sample, edit_manifest, link_tree, nothing, replace_file, resign_manifest
from toolkit.bundle import FUNCTIONAL_ONNX, MANIFEST, WEIGHTS, Bundle
from toolkit.storage.files import sha256_file

RUN = "run bundle {sample}/frames -o out"
RUN_TORCH = "run bundle {sample}/frames -o out --session torch"
REPLAY = "replay bundle {sample}/inputs.npz -o out.npz"
VERIFY = "verify bundle --length 1"
INSPECT = "inspect bundle"
BUILD = "build bundle --target tensorrt-rtx"
REPORT = "report bundle -o out.html"
READERS = {"run": RUN, "replay": REPLAY, "verify": VERIFY, "inspect": INSPECT}
COMMANDS = itertools.cycle(READERS.values())
FIELDS = (
    "config", "submodules", "frame_inputs", "state_inputs", "states", "results", "wires", "tables", "custom_ops",
    "files", "sha256", "provenance", "parity", "digest",
)  # fmt: skip
DATA = f"{FUNCTIONAL_ONNX}.data"


def malformed_bundles() -> Iterator[Malformed]:
    yield from no_bundles()
    yield from manifest_fields()
    yield from manifest_values()
    yield from manifest_texts()
    yield from resigned_manifests()
    yield from missing_files()
    yield from altered_files()
    yield from files_of_holes()
    yield from forgeries()


def bundle(name: str, make: Callable[[Path, Sample], object], *words: str, command: str = "") -> Malformed:
    return Malformed(f"bundle: {name}", command or next(COMMANDS), words, make)


def no_bundles() -> Iterator[Malformed]:
    for reader in ("run", "replay", "verify"):
        command = READERS[reader]
        yield bundle(f"missing, for {reader}", nothing, "bundle is not a bundle", command=command)
        yield bundle(f"empty folder, for {reader}", empty_folder, "it has no bundle.json", command=command)
    yield bundle("missing, for inspect", nothing, "bundle cannot be read", command=INSPECT)
    yield bundle("a file", lambda folder, sample: (folder / "bundle").write_text("x"), "bundle", command=RUN)
    yield bundle("manifest is a folder", manifest_folder, "it has no bundle.json")


def empty_folder(folder: Path, sample: Sample) -> None:
    (folder / "bundle").mkdir()


def manifest_folder(folder: Path, sample: Sample) -> None:
    (folder / "bundle" / MANIFEST).mkdir(parents=True)


def manifest_fields() -> Iterator[Malformed]:
    for field in FIELDS:
        make = edit_manifest(field, value=...)
        yield bundle(f"{field} missing", make, f"{MANIFEST}: field {field!r} is missing; convert again")
        for junk in (7, None):
            words = (MANIFEST, "was changed" if field == "digest" else f"is damaged in {field!r}", "convert again")
            yield bundle(f"{field} is {junk}", edit_manifest(field, value=junk), *words)
    for value in (..., 0, 1, "2", None, [1]):
        yield bundle(f"format {value!r}", edit_manifest("format", value=value), "format is not 2; convert again with")


def manifest_values() -> Iterator[Malformed]:
    """Plausible edits: each would change what the network's outputs mean, or where they come from."""
    changes: dict[tuple[str | int, ...], Any] = {
        ("config", "bev", "height"): 9,
        ("config", "bev", "width"): 10**9,
        ("config", "image", "mean"): [0, 0, 0],
        ("config", "image", "source_width"): -1,
        ("config", "tracking", "track_capacity"): 10**12,
        ("config", "class_names"): ["car"],
        ("config", "motion", "step_seconds"): float("nan"),
        ("config", "new"): 1,
        ("submodules", 0, "name"): "vision",
        ("submodules", 0, "plugin"): "os",
        ("submodules", 2, "outputs"): [],
        ("frame_inputs", 0, "shape"): ["cameras", 3, "nowhere"],
        ("frame_inputs", 0, "dtype"): "object",
        ("state_inputs", 0, "name"): "x",
        ("states", 0, "source"): "nothing",
        ("results", 0, "name"): "x",
        ("wires", 0, "shape"): [-1],
        ("custom_ops",): ["os.system"],
        ("files", "functional"): "/etc/passwd",
        ("files", "weights"): "../../etc/passwd",
        ("sha256", WEIGHTS): "0" * 64,
        ("sha256", "../secret"): "0" * 64,
        ("provenance", "left_out"): {"planning": "no"},
    }
    for keys, value in changes.items():
        where = ".".join(map(str, keys))
        yield bundle(f"{where} edited", edit_manifest(*keys, value=value), MANIFEST, "convert again")


def manifest_texts() -> Iterator[Malformed]:
    texts = {
        "empty": b"",
        "cut off": b'{"format": 2, "config": {',
        "not UTF-8": b'{"format": "\xff"}',
        "list": b"[]",
        "null": b"null",
        "nested deeply": b"[" * 100_000,
        "number of 5,000 digits": b'{"format": ' + b"1" * 5000 + b"}",
        "binary": bytes(range(256)),
    }
    for name, data in texts.items():
        yield bundle(f"manifest {name}", with_file(MANIFEST, content(data)), MANIFEST, "convert again")
    yield bundle("manifest of 8 GiB", huge_manifest, MANIFEST, "larger than", "convert again")


def resigned_manifests() -> Iterator[Malformed]:
    """Manifests whose digest is right, but which describe nothing."""
    changes: dict[tuple[str | int, ...], tuple[Any, str]] = {
        ("files", "functional"): (5, "$.files.functional: expected str, found 5"),
        ("files", "weights"): ([], "$.files.weights: expected str, found []"),
        ("files",): ({}, "does not hold the form"),
        ("sha256", WEIGHTS): (None, "$.sha256['weights.safetensors']: expected str, found None"),
        ("sha256", "../secret"): ("0" * 64, "$.sha256: expected the name of a file in the bundle, found '../secret'"),
        ("config", "bev", "height"): (10**9, "$.config: bev.height is 1000000000; it must lie between"),
        ("config", "bev", "width"): ("8", "$.config.bev.width: expected int, found '8'"),
        ("config", "can_bus_rotation"): (
            "all",
            "$.config.can_bus_rotation: expected scalar or quaternion, found 'all'",
        ),
        ("config", "yaw_convention"): (None, "$.config.yaw_convention: expected str, found None"),
        ("config", "bev", "radar"): (1, "$.config.bev: unknown field 'radar'; known fields: height"),
        ("submodules", 0, "outputs"): ([], ".name: 'image_features' is the output of no submodule"),
        ("results", 0, "shape"): (["nowhere"], "$.results[0].shape: tensor 'bev': unknown dimension 'nowhere'"),
        ("wires", 0, "shape"): ([10**6, 10**6], "$.wires[0].shape: expected at most 268435456 elements"),
        ("wires", 0, "shape", 0): (True, "$.wires[0].shape[0]: expected int or str, found True"),
        ("frame_inputs", 0, "dtype"): ("object", "$.frame_inputs[0]: tensor 'image': dtype 'object' is not one of"),
        ("states", 0, "source"): (..., "$.states[0]: field 'source' is missing"),
        ("states", 1, "source"): ("nothing", "$.states[1].source: 'nothing' is neither a result nor a frame input"),
        ("states", 2, "source"): ("image", "differ in shape or dtype"),
        ("state_inputs", 0, "name"): ("x", "$.state_inputs[0]: 'x' follows no tensor"),
        ("provenance", "meta"): (10**400, "$.provenance.meta: expected a number of 64 bits"),
        ("path",): ("/", "unknown field 'path'"),
        ("sizes", WEIGHTS): ("7", "$.sizes['weights.safetensors']: expected int, found '7'"),
    }
    for keys, (value, words) in changes.items():
        where = ".".join(map(str, keys))
        yield bundle(f"{where} forged as {value!r:.9}", resign_manifest(*keys, value=value), words, "convert again")
    for name in ("", ".", "..", "/etc/passwd", "../../etc/passwd", "sub/model.onnx", "a\0b", "x" * 5000, "\ud800"):
        make = resign_manifest("files", "functional", value=name)
        where = "$.files.functional: expected"
        yield bundle(f"functional file named {name!r:.20}", make, where, "convert again")


def huge_manifest(folder: Path, sample: Sample) -> None:
    link_tree(sample.bundle, folder / "bundle")
    replace_file(folder / "bundle" / MANIFEST, b"{")
    with (folder / "bundle" / MANIFEST).open("ab") as file:
        file.truncate(2**33)


def content(data: bytes) -> Callable[[bytes], bytes]:
    return lambda old: data


def with_file(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path, Sample], object]:
    """Makes a bundle in which one file is changed."""

    def make(folder: Path, sample: Sample) -> None:
        link_tree(sample.bundle, folder / "bundle")
        replace_file(folder / "bundle" / name, change((sample.bundle / name).read_bytes()))

    return make


def missing_files() -> Iterator[Malformed]:
    for name, reader in itertools.product((FUNCTIONAL_ONNX, DATA, WEIGHTS), READERS):
        words = (f"bundle: file {name} is missing", "convert again")
        yield bundle(f"{name} missing, for {reader}", without_file(name), *words, command=READERS[reader])


def without_file(name: str) -> Callable[[Path, Sample], object]:
    def make(folder: Path, sample: Sample) -> None:
        link_tree(sample.bundle, folder / "bundle")
        (folder / "bundle" / name).unlink()

    return make


def altered_files() -> Iterator[Malformed]:
    onnx_readers = {"run": RUN, "replay": REPLAY, "verify": VERIFY}
    readers = {FUNCTIONAL_ONNX: onnx_readers, DATA: onnx_readers, WEIGHTS: {"run": RUN_TORCH, "verify": VERIFY}}
    changes: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda old: b"",
        "cut off": lambda old: old[: len(old) // 2],
        "with one bit flipped": lambda old: old[:5000] + bytes([old[5000] ^ 1]) + old[5001:],
        "zeros": lambda old: bytes(len(old)),
    }
    for (name, commands), (what, change) in itertools.product(readers.items(), changes.items()):
        for reader, command in commands.items():
            words = (name, "is not the file that the conversion wrote", "convert again")
            yield bundle(f"{name} {what}, for {reader}", with_file(name, change), *words, command=command)
    yield bundle("weights cut off", with_file(WEIGHTS, changes["cut off"]), WEIGHTS, "copy", command=INSPECT)


def files_of_holes() -> Iterator[Malformed]:
    """Files of 4 TB that take no room on the disk are refused before they are hashed."""
    written = "is not the file that the conversion wrote"
    commands = {RUN: written, REPLAY: written, VERIFY: written, BUILD: written}
    cases = [*((DATA, *case) for case in commands.items()), (WEIGHTS, RUN_TORCH, written)]
    cases += [(WEIGHTS, INSPECT, "is larger than"), (WEIGHTS, REPORT, "is larger than")]
    for file, command, words in cases:
        yield bundle(f"{file} of 4 TB, for {command}", with_holes(file), file, words, command=command)
    for sizes, what in ((..., "size not recorded"), ({DATA: 2**42}, "size recorded")):
        yield bundle(f"{DATA} of 4 TB, {what}", with_holes(DATA, sizes), DATA, written, command=VERIFY)


def with_holes(name: str, sizes: Any = None) -> Callable[[Path, Sample], object]:
    """Makes a bundle with a file of 4 TB; `sizes` replaces those of the manifest."""

    def make(folder: Path, sample: Sample) -> None:
        if sizes is None:
            link_tree(sample.bundle, folder / "bundle")
        else:
            resign_manifest("sizes", value=sizes)(folder, sample)
        replace_file(folder / "bundle" / name, (sample.bundle / name).read_bytes())
        os.truncate(folder / "bundle" / name, 2**42)

    return make


def forgeries() -> Iterator[Malformed]:
    """Bundles that are consistent in themselves, but not what this version makes."""
    cannot_load = ("ONNX Runtime cannot load", FUNCTIONAL_ONNX, "convert again")
    for name, change in MODEL_CHANGES.items():
        told = READ_BEFORE_LOADED.get(name, cannot_load)
        yield bundle(name, forged(FUNCTIONAL_ONNX, model_change(change)), *told, command=RUN)
    unread = ("ONNX model", FUNCTIONAL_ONNX, "cannot be read")
    yield bundle("model is text", forged(FUNCTIONAL_ONNX, lambda p: p.write_text("x")), *unread, command=REPLAY)
    yield bundle("data cut off", forged(DATA, cut_off), *cannot_load, command=VERIFY)
    weights = ("weights.safetensors", "convert again")
    yield bundle("weights is text", forged(WEIGHTS, lambda p: p.write_text("x")), *weights, command=RUN_TORCH)
    misfit = "the checkpoint does not fit the model"
    yield bundle("no weights", forged(WEIGHTS, lambda p: save_file({}, p)), misfit, command=RUN_TORCH)
    yield bundle("weights without one entry", forged(WEIGHTS, drop_entry), misfit, command=VERIFY)
    yield bundle("weights of other shapes", forged(WEIGHTS, reshape_entries), misfit, command=VERIFY)
    unknown = ("submodule 'vision'", "install")
    for command in (RUN, RUN_TORCH, VERIFY):
        words = f"{MANIFEST} do not agree about the tensor 'image'"
        yield bundle(f"tensor of another shape, for {command}", other_tensor, words, "convert again", command=command)
    yield bundle("submodule of no plugin", renamed_submodule, *unknown, command=RUN_TORCH)


def forged(name: str, change: Callable[[Path], object]) -> Callable[[Path, Sample], object]:
    """Makes a bundle with one changed file that its manifest knows."""

    def make(folder: Path, sample: Sample) -> None:
        link_tree(sample.bundle, folder / "bundle")
        path = folder / "bundle" / name
        replace_file(path, path.read_bytes())
        change(path)
        intact = Bundle.read(sample.bundle)
        (folder / "bundle" / MANIFEST).unlink()
        sha256, sizes = {**intact.sha256, name: sha256_file(path)}, {**intact.sizes, name: path.stat().st_size}
        replace(intact, path=folder / "bundle", sha256=sha256, sizes=sizes).write()

    return make


def other_tensor(folder: Path, sample: Sample) -> None:
    resign_manifest("frame_inputs", 0, "shape", value=[7])(folder, sample)


def renamed_submodule(folder: Path, sample: Sample) -> None:
    link_tree(sample.bundle, folder / "bundle")
    (folder / "bundle" / MANIFEST).unlink()
    intact = Bundle.read(sample.bundle)
    first, *others = intact.submodules
    replace(intact, path=folder / "bundle", submodules=(replace(first, name="vision"), *others)).write()


def model_change(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], object]:
    def apply(path: Path) -> None:
        model = onnx.load(path, load_external_data=False)
        change(model)
        path.write_bytes(model.SerializeToString())

    return apply


def foreign_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 999


def foreign_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 999


def foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Teleport"


def foreign_domain(model: onnx.ModelProto) -> None:
    del model.functions[:]


def other_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "x"


def other_location(model: onnx.ModelProto) -> None:
    """External data outside the folder."""
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../etc/passwd"


MODEL_CHANGES: dict[str, Callable[[onnx.ModelProto], object]] = {
    "foreign opset": foreign_opset,
    "foreign IR version": foreign_ir,
    "unknown operator": foreign_operator,
    "custom ops without bodies": foreign_domain,
    "output without a producer": other_output,
    "external data elsewhere": other_location,
    "no graph": lambda model: model.ClearField("graph"),
}


READ_BEFORE_LOADED = {
    "external data elsewhere": ("external weights of ONNX model", FUNCTIONAL_ONNX, "put the file of weights"),
    "no graph": ("ONNX model", FUNCTIONAL_ONNX, "holds no nodes"),
}
"""What is found where the places of weights are read, before ONNX Runtime is asked."""


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def drop_entry(path: Path) -> None:
    weights = load_file(path)
    del weights["query_embedding.weight"]
    save_file(weights, path)


def reshape_entries(path: Path) -> None:
    save_file({key: value.flatten() for key, value in load_file(path).items()}, path)
