"""From an ONNX file to a TensorRT engine. No GPU is needed where compute capabilities are given."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import onnx

from toolkit.engines.tensorrt.library import Target
from toolkit.engines.tensorrt.messages import new_logger
from toolkit.engines.tensorrt.model import plugin_ops
from toolkit.engines.tensorrt.preflight import require_supported
from toolkit.engines.tensorrt.progress import BuildMonitor, Phase
from toolkit.engines.tensorrt.settings import BuildSettings, CustomOps
from toolkit.engines.tensorrt.sidecar import EngineTensor
from toolkit.errors import CheckFailed, InputError
from toolkit.ops.spec import VERSION, CustomOp
from toolkit.ops.tensorrt_aot import register_embedded_plugins
from toolkit.ops.tensorrt_plugin import register_plugins, with_bases
from toolkit.storage.claims import unguarded_file
from toolkit.storage.outputs import new_file
from toolkit.storage.regular_file import open_regular
from toolkit.text import LONGEST_LINE, shown

if TYPE_CHECKING:
    import tensorrt

MIB = 2**20


@dataclass(frozen=True)
class BuiltEngine:
    """A serialized engine, its tensors, and the layers of the network that it was built from, counted by kind."""

    data: bytes
    tensors: tuple[EngineTensor, ...]
    layers: dict[str, int]


def build_engine(
    trt: ModuleType,
    model: Path,
    ops: Sequence[CustomOp],
    settings: BuildSettings,
    report: Callable[[list[Phase]], None] = lambda phases: None,
    *,
    gpu: str | None = None,
    source: Path | None = None,
) -> BuiltEngine:
    """Build an engine of an ONNX model for the compute capabilities of the settings, or for the GPU at hand.

    Those of `ops` that the model uses without a local function are registered as plugins first. `gpu` is the compute
    capability that embedded kernels are compiled for. `report` gets the phases of the build. `source` is the file that
    messages name, if not `model` itself. TensorRT writes its messages to the standard error output, and a failure can
    leave its memory damaged: build in a process of its own. Raises InputError, naming the node at fault, for a model
    that TensorRT cannot read, and CheckFailed with TensorRT's last error if the build fails.
    """
    source = source or model
    plugins = plugin_ops(model, ops, source)
    if settings.custom_ops is CustomOps.EMBEDDED:
        register_embedded_plugins(trt, plugins, f"compute_{(gpu or '').replace('.', '')}")
    else:
        register_plugins(trt, plugins)
    logger = new_logger(trt, sys.stderr)
    builder: tensorrt.Builder = trt.Builder(logger)
    network = parse_network(trt, builder, model, settings.target, source)
    config: tensorrt.IBuilderConfig = builder.create_builder_config()
    configure(trt, builder, config, settings)
    monitor = with_bases(BuildMonitor, trt.IProgressMonitor)(report)
    config.progress_monitor = monitor
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise CheckFailed(f"{settings.target.title} cannot build an engine of {source}: {logger.last_error}")
    if settings.timing_cache is not None:
        with new_file(unguarded_file(settings.timing_cache, shared=True)) as work:
            work.write_bytes(memoryview(config.get_timing_cache().serialize()))
    return BuiltEngine(bytes(data), network_tensors(network), network_layers(network))


def parse_network(
    trt: ModuleType, builder: tensorrt.Builder, model: Path, target: Target, source: Path
) -> tensorrt.INetworkDefinition:
    """The strongly typed network of a model whose custom ops are registered.

    Raises InputError, which names `source`, for nodes that the target lacks, or with the node that it cannot read.
    """
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser: tensorrt.OnnxParser = trt.OnnxParser(network, builder.logger)
    proto = onnx.load(model, load_external_data=False)
    registry = trt.get_plugin_registry()

    def registered(node: onnx.NodeProto) -> bool:
        names = (node.domain, "")
        return any(registry.get_creator(node.op_type, str(VERSION), name) is not None for name in names)

    require_supported(proto, source, target, parser.supports_operator, registered)
    if not parser.parse_from_file(str(model)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        error = next((error for error in errors if error.node_name()), errors[0])
        reason = shown(" ".join(error.desc().split()), LONGEST_LINE)
        raise InputError(f"{target.title} cannot read node {error.node_name()!r} of {source}: {reason}")
    return network


def configure(
    trt: ModuleType, builder: tensorrt.Builder, config: tensorrt.IBuilderConfig, settings: BuildSettings
) -> None:
    """Set everything that the settings say. Raises InputError for what TensorRT does not take."""
    if settings.capabilities:
        set_capabilities(config, [capability(trt, name) for name in settings.capabilities])
    if not settings.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if settings.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace * MIB)
    if settings.optimization_level is not None:
        config.builder_optimization_level = settings.optimization_level
    if settings.timing_cache is not None:
        use_timing_cache(config, settings.timing_cache)
    if settings.profiles:
        profile = builder.create_optimization_profile()
        for name, sizes in settings.profiles.items():
            profile.set_shape(name, trt.Dims(sizes.smallest), trt.Dims(sizes.usual), trt.Dims(sizes.largest))
        if config.add_optimization_profile(profile) < 0:
            raise InputError(f"{settings.target.title} does not take the profile; check the ranges of --profile")


def set_capabilities(config: Any, capabilities: Sequence[Any]) -> None:
    """Let one engine serve several GPUs; TensorRT for RTX alone has this."""
    config.num_compute_capabilities = len(capabilities)
    for index, value in enumerate(capabilities):
        config.set_compute_capability(value, index)


def capability(trt: ModuleType, name: str) -> Any:
    """TensorRT's constant for a compute capability like "8.6"; InputError if it has none."""
    if not hasattr(trt, "ComputeCapability"):
        raise InputError(f"{trt.__name__} builds for the GPU at hand alone; use TensorRT for RTX to build for {name}")
    known = {f"{key[2:-1]}.{key[-1]}": sm for key, sm in trt.ComputeCapability.__members__.items() if key[:2] == "SM"}
    if name not in known:
        raise InputError(f"TensorRT cannot build for compute capability {name!r}; use one of {', '.join(known)}")
    return known[name]


def use_timing_cache(config: tensorrt.IBuilderConfig, path: Path) -> None:
    """Start from the timings of an earlier build, if there are any; TensorRT warns of a file that holds none.

    Raises InputError for timings of another machine.
    """
    data = b""
    with suppress(FileNotFoundError), open_regular(path) as file:
        data = file.read()
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise InputError(f"timing cache {path} is of another GPU or TensorRT; remove it or name another")


def network_tensors(network: tensorrt.INetworkDefinition) -> tuple[EngineTensor, ...]:
    """Inputs, then outputs."""
    inputs = [("input", network.get_input(i)) for i in range(network.num_inputs)]
    outputs = [("output", network.get_output(i)) for i in range(network.num_outputs)]
    return tuple(
        EngineTensor(tensor.name, mode, numpy_name(tensor.dtype.name), sizes(tensor.shape))
        for mode, tensor in (*inputs, *outputs)
    )


def sizes(shape: tensorrt.Dims) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in range(len(shape)))


def numpy_name(dtype: str) -> str:
    """A TensorRT type by the name that numpy, or its extension for machine learning, has for it."""
    return {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}.get(dtype, dtype.lower())


def network_layers(network: tensorrt.INetworkDefinition) -> dict[str, int]:
    """How many layers of each kind a network has."""
    kinds = Counter(network.get_layer(i).type.name for i in range(network.num_layers))
    return dict(kinds.most_common())
