"""From an ONNX model in plugin form to a TensorRT engine. No GPU is needed where the compute capability is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from toolkit.errors import InputError
from toolkit.ops.spec import DOMAIN, CustomOp, registered_schemas
from toolkit.ops.tensorrt_plugin import register_plugins

Shape = Sequence[int]


@dataclass(frozen=True)
class ShapeRange:
    """Smallest, usual and largest shape of an input of which some sizes are open."""

    smallest: Shape
    usual: Shape
    largest: Shape


def build_engine(
    trt: ModuleType,
    model: Path,
    ops: Sequence[CustomOp],
    *,
    compute_capability: str | None = None,
    shapes: Mapping[str, ShapeRange] | None = None,
) -> bytes:
    """The serialized engine of an ONNX model, for the GPU at hand or for one with a compute capability like "8.6".

    Those of `ops` that the model uses are registered as plugins. `shapes` is for every input that has open sizes. Only
    TensorRT for RTX builds for another GPU than that at hand. TensorRT writes its own messages to the standard error
    output, and a failure can leave its memory damaged: build in a process of its own. Raises InputError, naming the
    node at fault if it is one.
    """
    register_plugins(trt, plugin_ops(model, ops))
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = parse_network(trt, builder, model)
    config = builder.create_builder_config()
    if compute_capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(capability(trt, compute_capability), 0)
    if shapes:
        profile = builder.create_optimization_profile()
        for name, sizes in shapes.items():
            profile.set_shape(name, sizes.smallest, sizes.usual, sizes.largest)
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise InputError(f"TensorRT cannot build an engine of {model}; its own messages are above")
    return bytes(engine)


def parse_network(trt: ModuleType, builder: Any, model: Path) -> Any:
    """The strongly typed network of a model whose custom ops are registered.

    Raises InputError with the node at fault.
    """
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(str(model)):
        error = parser.get_error(0)
        reason = error.desc().partition("\n")[0]
        raise InputError(f"TensorRT cannot read node {error.node_name()!r} of {model}: {reason}")
    return network


def plugin_ops(model: Path, ops: Sequence[CustomOp]) -> list[CustomOp]:
    """Those of `ops` that the model calls with no local function behind them, which TensorRT would prefer to a plugin.

    Raises InputError unless each of its nodes of domain ``uniad`` is a valid call of one of `ops`: TensorRT itself
    would take a faulty one for a missing plugin.
    """
    proto = onnx.load(model, load_external_data=False)
    bodies = {function.name for function in proto.functions if function.domain == DOMAIN}
    nodes = {node.op_type: node.name for node in proto.graph.node if node.domain == DOMAIN}
    by_name = {op.name: op for op in ops}
    for name, node in nodes.items():
        if name not in by_name:
            raise InputError(
                f"{model} uses the custom op {name!r} (node {node!r}), which no loaded plugin has; "
                "load the plugin it comes from"
            )
    try:
        with registered_schemas(ops):
            onnx.checker.check_model(str(model))
    except onnx.checker.ValidationError as error:
        raise InputError(f"{model} is not valid: {' '.join(str(error).split())}; export it again") from error
    return [by_name[name] for name in nodes if name not in bodies]


def capability(trt: ModuleType, name: str) -> Any:
    """TensorRT's constant for a compute capability like "8.6"; InputError if it has none."""
    if not hasattr(trt, "ComputeCapability"):
        raise InputError(f"{trt.__name__} builds for the GPU at hand alone; use TensorRT for RTX to build for {name}")
    known = {f"{key[2:-1]}.{key[-1]}": sm for key, sm in trt.ComputeCapability.__members__.items() if key[:2] == "SM"}
    if name not in known:
        raise InputError(f"TensorRT cannot build for compute capability {name!r}; use one of {', '.join(known)}")
    return known[name]
