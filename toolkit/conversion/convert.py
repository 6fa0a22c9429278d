"""Checkpoint in, bundle out: load, build, export submodule by submodule, join, check, verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from toolkit.bundle import FUNCTIONAL_ONNX, WEIGHTS, Bundle, PackageRecord, SubmoduleRecord
from toolkit.config.model import ModelConfig
from toolkit.conversion.export import merge
from toolkit.conversion.exports import export_submodules
from toolkit.conversion.prepare import Progress, prepare
from toolkit.data.probe import probe_frames
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.engines.torch import TorchSession
from toolkit.network import Network
from toolkit.ops.spec import DOMAIN, CustomOp
from toolkit.plugin.manager import PluginManager
from toolkit.storage.claims import FolderOutput, claim_folder
from toolkit.storage.files import sha256_file
from toolkit.storage.outputs import new_folder
from toolkit.verification.report import Report
from toolkit.verification.verify import verify
from toolkit.versions import installed_version
from toolkit.weights.checkpoint import printable
from toolkit.weights.layouts import Weights
from toolkit.weights.stored import checkpoint_files
from toolkit.weights.weight_files import write_safetensors
from toolkit.wiring import NetworkGraph

TOOLS = ("uniad-toolkit", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")
PARITY_FRAMES = 4
PARITY_SCENE_CHANGE = 3


def convert(
    checkpoint: Path,
    output: Path,
    plugins: PluginManager,
    *,
    config: ModelConfig | None = None,
    config_file: Path | None = None,
    assets: Mapping[str, np.ndarray] | None = None,
    weights: Weights = Weights.STORED,
    force: bool = False,
    inputs: Sequence[Path] = (),
    progress: Progress = lambda step: nullcontext(),
) -> Bundle:
    """Convert a trained checkpoint into a bundle at `output`.

    Submodules that the checkpoint has no entries for are left out; the bundle's provenance says so under `left_out`,
    and under `notes` what was chosen of the file.
    `config_file` is where `config` was read from, for the record. `inputs` are files that other arguments were read
    from, which `output` may not replace either.
    `assets` maps state-dict keys that submodules take from a conversion input to their arrays. Raises InputError for
    bad input, CheckFailed when the converted network diverges from the checkpoint's; either way nothing is written.
    """
    config = config or ModelConfig()
    target = claim_bundle(checkpoint, output, [config_file, *inputs, *plugins.files], force=force)
    with new_folder(target) as folder:
        prepared = prepare(checkpoint, plugins, config, assets or {}, weights, progress)
        network = prepared.network
        provenance = {
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": prepared.sha256,
            "meta": printable(prepared.meta),
            "left_out": prepared.left_out,
            "tools": tool_versions(),
        }
        if prepared.notes:
            provenance["notes"] = prepared.notes
        if config_file is not None:
            provenance |= {"config": config_file.name, "config_sha256": sha256_file(config_file)}
        used = write_forms(network, folder, plugins.custom_ops(), prepared.sha256, progress)
        bundle = describe(folder, network.graph, plugins, used, provenance)
        with progress("verify against the torch network, state fed back"):
            report = verify_conversion(bundle, network)
            report.require()
        replace(bundle, parity=report.summary()).write()
    return Bundle.read(output)


def claim_bundle(checkpoint: Path, output: Path, inputs: Sequence[Path | None], *, force: bool) -> FolderOutput:
    """The right to write the bundle of a checkpoint. Raises InputError, also for a faulty index of its parts."""
    return claim_folder(output, "bundle", force=force, inputs=[*checkpoint_files(checkpoint), *inputs])


def write_forms(
    network: Network, folder: Path, ops: tuple[CustomOp, ...], checkpoint_sha256: str, progress: Progress
) -> tuple[str, ...]:
    """Write the ONNX model of a network and its weights into a folder; gives the names of the custom ops in it."""
    graph = network.graph
    pieces = export_submodules(network, ops, progress)
    with progress("join and check the ONNX model"):
        metadata = {"checkpoint_sha256": checkpoint_sha256} | {f"version.{k}": v for k, v in tool_versions().items()}
        model = merge(graph, pieces, ops, metadata)
        write_model(model, folder / FUNCTIONAL_ONNX)
        write_safetensors(folder / WEIGHTS, network.weights())
    return used_ops(model, ops)


def write_model(model: ModelProto, path: Path) -> None:
    """Save with all weights in one external file, and check the result as ONNX."""
    onnx.save_model(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=path.name + ".data")
    onnx.checker.check_model(path, full_check=True)


def describe(
    folder: Path, graph: NetworkGraph, plugins: PluginManager, ops: tuple[str, ...], provenance: Mapping[str, object]
) -> Bundle:
    """The bundle record of a folder that holds the written forms."""
    digests = {str(path): digest for path, digest in plugins.files.items()}
    records = []
    for submodule in graph.submodules:
        origin = plugins.origin(submodule)
        name = Path(origin).name if origin in digests else origin
        outputs = tuple(spec.name for spec in submodule.outputs)
        records.append(SubmoduleRecord(submodule.name, name, digests.get(origin), outputs))
    files = sorted(folder.iterdir())
    return Bundle.of_graph(
        folder,
        graph,
        submodules=tuple(records),
        custom_ops=ops,
        files={"functional": FUNCTIONAL_ONNX, "weights": WEIGHTS},
        sha256={path.name: sha256_file(path) for path in files},
        sizes={path.name: path.stat().st_size for path in files},
        provenance=provenance,
        parity={},
        packages=package_records(graph, plugins, ops),
    )


def package_records(graph: NetworkGraph, plugins: PluginManager, ops: tuple[str, ...]) -> tuple[PackageRecord, ...]:
    """The installed packages that submodules of the network, and its custom ops of these names, come from."""
    origins = [plugins.origin(submodule) for submodule in graph.submodules]
    origins += [plugin for plugin, op in plugins.offered_custom_ops() if op.name in ops]
    packages = {plugin: plugins.package(plugin) for plugin in dict.fromkeys(origins)}
    return tuple(
        PackageRecord(plugin, package.name, package.version, package.sha256)
        for plugin, package in packages.items()
        if package is not None
    )


def used_ops(model: ModelProto, ops: tuple[CustomOp, ...]) -> tuple[str, ...]:
    """Names of the custom ops that occur in the model."""
    present = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    return tuple(op.name for op in ops if op.name in present)


def verify_conversion(bundle: Bundle, network: Network) -> Report:
    """Compare the written model in ONNX Runtime with the network it was exported from, over a probe sequence."""
    frames = probe_frames(bundle.config, PARITY_FRAMES, PARITY_SCENE_CHANGE)
    reference, candidate = TorchSession(network), OnnxRuntimeSession(bundle, wires=bundle.wires)
    [report] = verify(bundle, reference, [candidate], frames, lambda: reference)
    return report


def tool_versions() -> dict[str, str]:
    """Installed versions of what shapes a conversion."""
    return {name: installed_version(name) or "not installed" for name in TOOLS}
