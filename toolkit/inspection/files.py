"""Telling checkpoints, bundles, ONNX models and engines apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from toolkit.bundle import Bundle
from toolkit.engines.tensorrt.sidecar import ENGINE_SUFFIX, sidecar_path
from toolkit.errors import InputError
from toolkit.inspection.bundle import BundleReport, inspect_bundle
from toolkit.inspection.engine import EngineReport, inspect_engine
from toolkit.inspection.onnx_model import OnnxReport, inspect_onnx
from toolkit.inspection.weights import CheckpointReport, inspect_checkpoint
from toolkit.specs import Submodule
from toolkit.storage.onnx_file import model_files
from toolkit.weights.checkpoint import read_checkpoint
from toolkit.weights.stored import checkpoint_files

Report = CheckpointReport | BundleReport | OnnxReport | EngineReport
ONNX_SUFFIX = ".onnx"


def inspect_file(path: Path, submodules: Sequence[Submodule]) -> Report:
    """Describe a bundle folder, an ``.onnx`` file, an ``.engine`` file or a checkpoint.

    Raises InputError if it cannot be read as such.
    """
    if path.is_dir():
        return inspect_bundle(Bundle.read(path), submodules)
    if path.suffix == ONNX_SUFFIX:
        return inspect_onnx(path)
    if path.suffix == ENGINE_SUFFIX:
        return inspect_engine(path)
    return inspect_checkpoint(read_checkpoint(path), submodules)


def inspected_files(path: Path) -> list[Path]:
    """What is read for `inspect_file`: an ONNX model's weights, an engine's sidecar, a checkpoint's parts belong to it.

    Raises InputError for a faulty index of parts.
    """
    if path.suffix == ONNX_SUFFIX:
        return model_files(path)
    return [path, sidecar_path(path)] if path.suffix == ENGINE_SUFFIX else checkpoint_files(path)


def weights_of(path: Path) -> Mapping[str, Tensor]:
    """The weights of a checkpoint or a bundle.

    Raises InputError for an ONNX model or an engine, whose weights have other names.
    """
    if path.suffix in (ONNX_SUFFIX, ENGINE_SUFFIX):
        raise InputError(f"{path} cannot be compared: compare its bundle, or checkpoints")
    return read_checkpoint(Bundle.read(path).weights if path.is_dir() else path).state_dict
