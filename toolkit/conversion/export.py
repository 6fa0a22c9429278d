"""Submodules to ONNX, one at a time, and the pieces joined by tensor name into the functional model."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import onnx
import onnx_ir
import torch
from onnx import GraphProto, ModelProto, NodeProto
from onnx_ir.passes.common import NameFixPass
from torch import nn

from toolkit.config.model import ModelConfig
from toolkit.conversion.simplify import simplify
from toolkit.errors import InputError
from toolkit.graph.opset import raise_opset
from toolkit.network import example_inputs
from toolkit.ops.bodies import attach_bodies, custom_nodes
from toolkit.ops.spec import DOMAIN, OPSET, VERSION, CustomOp, registered_schemas
from toolkit.quiet import quiet
from toolkit.specs import Submodule, TensorSpec
from toolkit.wiring import NetworkGraph

ONNX_TYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "int32": onnx.TensorProto.INT32,
    "int64": onnx.TensorProto.INT64,
    "bool": onnx.TensorProto.BOOL,
}


def export_submodule(
    graph: NetworkGraph, submodule: Submodule, module: nn.Module, ops: Sequence[CustomOp]
) -> ModelProto:
    """One submodule of a network as an ONNX model whose inputs and outputs carry the spec's names.

    Raises InputError, naming the submodule, when the exporter cannot express it or its outputs are not as specified.
    """
    inputs = graph.inputs_of(submodule)
    with registered_schemas(ops), quiet_exporter(), garbage_left():
        try:
            program = torch.onnx.export(
                module,
                example_inputs(inputs, graph.config),
                dynamo=True,
                opset_version=OPSET,
                custom_translation_table={op.overload: op.translation() for op in ops},
                optimize=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            cause = error.__cause__ or error
            raise InputError(
                f"submodule {submodule.name!r} cannot be exported: {str(cause).strip().splitlines()[0]}"
            ) from error
        assert program is not None
        model = simplify(program.model)
        check_outputs(submodule, model.graph.outputs, graph.config)
        # Only now, when no value is both an input and an output, or two outputs, has each a name of its own.
        for values, specs in ((model.graph.inputs, inputs), (model.graph.outputs, submodule.outputs)):
            for value, spec in zip(values, specs, strict=True):
                value.name = spec.name
        NameFixPass()(model)
        return onnx_ir.to_proto(model)


def check_outputs(submodule: Submodule, exported: Sequence[onnx_ir.Value], config: ModelConfig) -> None:
    """Raise InputError unless the exported outputs are those of the specs."""
    if len(exported) != len(submodule.outputs):
        raise InputError(
            f"submodule {submodule.name!r} returns {len(exported)} tensors, but has {len(submodule.outputs)} outputs"
        )
    for spec, value in zip(submodule.outputs, exported, strict=True):
        assert value.dtype is not None
        assert value.shape is not None
        wanted = f"{spec.dtype}{list(spec.resolve(config.dimensions()))}"
        given = f"{value.dtype.numpy()}[{', '.join(map(str, value.shape))}]"
        if given != wanted:
            raise InputError(f"submodule {submodule.name!r} returns {spec.name!r} as {given}; its spec says {wanted}")


def quiet_exporter() -> AbstractContextManager[None]:
    """Keep the exporter's notes about absent optional packages and skipped foldings off the terminal."""
    return quiet("torch.onnx", "onnxscript", "onnx_ir")


@contextmanager
def garbage_left() -> Iterator[None]:
    """Have Python look for garbage after the block alone, not again and again while the exporter makes its graphs.

    They stay until its end, and it would look through all that torch made: a fifth of an export's time.
    """
    wanted = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if wanted:
            gc.enable()


def merge(
    graph: NetworkGraph, pieces: Mapping[str, ModelProto], ops: Sequence[CustomOp], metadata: Mapping[str, str]
) -> ModelProto:
    """Join exported submodules by tensor name into one model with a local function for every custom op.

    Interface tensors keep their names; all else is prefixed by ``submodule/``. The opset is the latest that one of the
    custom ops wishes for.
    """
    dimensions = graph.config.dimensions()
    merged = GraphProto(name="uniad_tiny")
    merged.input.extend(value_info(spec, dimensions) for spec in graph.inputs)
    merged.output.extend(value_info(spec, dimensions) for spec in graph.results)
    for submodule in graph.submodules:
        interface = {*submodule.reads, *(spec.name for spec in submodule.outputs)}
        _append(merged, pieces[submodule.name].graph, submodule.name, interface)
    model = onnx.helper.make_model(
        merged,
        producer_name="uniad-toolkit",
        ir_version=10,
        opset_imports=[onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(DOMAIN, VERSION)],
    )
    attach_bodies(model, ops)
    onnx.helper.set_model_props(model, dict(metadata))
    used = {node.op_type for node in custom_nodes(model.graph.node)}
    return raise_opset(model, max([OPSET, *(op.opset for op in ops if op.name in used)]), ops)


def value_info(spec: TensorSpec, dimensions: Mapping[str, int]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(
        spec.name, ONNX_TYPES[spec.dtype], spec.resolve(dimensions), doc_string=spec.meaning
    )


def _append(merged: GraphProto, piece: GraphProto, prefix: str, interface: set[str]) -> None:
    def rename(name: str) -> str:
        return name if not name or name in interface else f"{prefix}/{name}"

    for initializer in piece.initializer:
        initializer.name = rename(initializer.name)
        merged.initializer.append(initializer)
    for node in piece.node:
        node.name = _node_name(prefix, node)
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
        merged.node.append(node)
    for info in piece.value_info:
        if info.name not in interface:
            info.name = rename(info.name)
            info.ClearField("metadata_props")
            merged.value_info.append(info)


def _node_name(submodule: str, node: NodeProto) -> str:
    """submodule/module path/node, the path as the exporter recorded it (unique, since the node's own name is)."""
    recorded = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "[]")
    scopes = [scope for scope in ast.literal_eval(recorded)[:-1] if scope]
    return "/".join([submodule, *scopes[-1:], node.name.removeprefix("node_")])
