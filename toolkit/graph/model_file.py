"""ONNX files of any origin: read with clear errors, written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, TensorShapeProto
from onnx.external_data_helper import set_external_data

from toolkit.bundle import Bundle
from toolkit.errors import CheckFailed, InputError
from toolkit.graph.attributes import check_attributes
from toolkit.graph.expansion import check_expansion
from toolkit.graph.topology import check_graph
from toolkit.graph.validity import checker_fault
from toolkit.graph.weights import split_weights
from toolkit.onnx_nodes import all_nodes, standard_opset
from toolkit.storage.claims import FileOutput, Output, claim_file
from toolkit.storage.external_weights import read_external_weights
from toolkit.storage.onnx_file import parse_model
from toolkit.storage.onnx_tensors import check_tensors, messages_in
from toolkit.storage.outputs import new_file, new_files

OLDEST_OPSET, NEWEST_OPSET = 11, 23
"""What is read; the passes and TensorRT get nothing older than opset 16, see `toolkit.graph.opset.raise_opset`."""
EXTERNAL_FROM = 2**28
"""Bytes of weights from which they are written to a file of their own."""
ALIGNMENT = 4096
"""Weights start at multiples of it, so that they can be mapped into memory."""


def model_path(path: Path) -> Path:
    """The ONNX file meant by a path: itself, or the model of a bundle folder. Raises InputError if it is no bundle."""
    return Bundle.read(path).onnx if path.is_dir() else path


def read_model(path: Path) -> ModelProto:
    """Read an ONNX model with its external weights, its nodes in an order in which they can run.

    Dimensions of -1 become open ones, as older exporters mean them.

    Raises InputError for a file that is missing or no ONNX, an opset outside 11 to 23, a graph that is cyclic, uses a
    tensor that nothing makes, or makes one twice, local functions without end, tensors of unknown types or with other
    values than they state, missing or short external data, attributes of values that no operator knows, and whatever
    else ONNX's checker refuses.
    """
    model = parse_model(path)
    check_opset(model, path)
    open_dimensions(model)
    check_graph(model.graph, path)
    check_expansion(model, path)
    check_tensors(model, path)
    read_external_weights(model, path)
    if fault := checker_fault(model, any_operator=True):
        raise InputError(f"ONNX's checker refuses the model {path}: {fault}; export it again")
    check_attributes(model, path)
    return model


def check_opset(model: ModelProto, path: Path) -> None:
    """Raise InputError unless the standard operators are of a supported version; write their domain in the short way.

    The domain may be written as "ai.onnx" too.
    """
    for opset in model.opset_import:
        if opset.domain == "ai.onnx":
            opset.domain = ""
    for node in all_nodes(model.graph.node):
        if node.domain == "ai.onnx":
            node.domain = ""
    version = standard_opset(model)
    if version is None:
        raise InputError(f"ONNX model {path} states no version of the standard operators (opset); export it again")
    if not OLDEST_OPSET <= version <= NEWEST_OPSET:
        raise InputError(
            f"ONNX model {path} has opset {version}; export it with one from {OLDEST_OPSET} to {NEWEST_OPSET}, "
            "or convert it with onnx.version_converter"
        )


def open_dimensions(model: ModelProto) -> None:
    """Leave open, in place, the dimensions that are stated as -1."""
    for message in messages_in(model):
        if isinstance(message, TensorShapeProto.Dimension) and message.dim_value == -1:
            message.ClearField("dim_value")


@dataclass(frozen=True)
class ModelOutput:
    """The files that a model may be written to, the second one for its weights if they are large."""

    model: FileOutput
    weights: FileOutput


def claim_model(path: Path, *, inputs: Sequence[Path | None] = (), others: Sequence[Output | None] = ()) -> ModelOutput:
    """The right to write a model to `path`, and its weights beside it (``NAME.onnx.data``).

    Raises InputError as `claim_file` does.
    """
    model = claim_file(path, inputs=inputs, others=others)
    weights = weights_path(model.path)
    return ModelOutput(model, claim_file(weights, inputs=inputs, others=[*others, model]))


def write_model(model: ModelProto, output: ModelOutput | Path) -> tuple[Path, ...]:
    """Write a model, large weights to the file beside it; the paths of what was written.

    Both files appear or neither. Raises InputError if they cannot be written, CheckFailed if ONNX's checker refuses the
    model, in which case some step before has broken it.
    """
    if isinstance(output, Path):
        output = claim_model(output)
    if fault := checker_fault(model, any_operator=True):
        raise CheckFailed(f"ONNX's checker refuses what was to be written to {output.model.path}: {fault}")
    light, weights = split_weights(model)
    if sum(weight.ByteSize() for weight in weights.values()) < EXTERNAL_FROM:
        with new_file(output.model) as work:
            work.write_bytes(model.SerializeToString())
        return (output.model.path,)
    with new_files(output.weights, output.model) as (data, work):
        with data.open("wb") as file:
            for weight in weights.values():
                raw = weight.raw_data or onnx.numpy_helper.to_array(weight).tobytes()
                file.write(bytes(-file.tell() % ALIGNMENT))
                name = output.weights.path.name
                light.graph.initializer.append(reference_to(weight, name, file.tell(), len(raw)))
                file.write(raw)
        work.write_bytes(light.SerializeToString())
    return output.model.path, output.weights.path


def weights_path(model: Path) -> Path:
    """Where a model's large weights are written."""
    return model.with_name(model.name + ".data")


def reference_to(weight: TensorProto, location: str, offset: int, length: int) -> TensorProto:
    """A tensor of the same name and shape whose values lie in a file."""
    reference = TensorProto(name=weight.name, data_type=weight.data_type, dims=weight.dims, raw_data=b"")
    set_external_data(reference, location, offset, length)
    reference.ClearField("raw_data")
    return reference
