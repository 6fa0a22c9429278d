"""The ONNX model that TensorRT reads: its custom ops in the form asked for, its precision reduced, its inputs known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto

from toolkit.engines.tensorrt.settings import BuildSettings, CustomOps, ShapeRange
from toolkit.errors import InputError
from toolkit.graph.given_inputs import open_shape
from toolkit.graph.model_file import read_model
from toolkit.graph.opset import raise_opset, raised_lines
from toolkit.graph.pipeline import run_passes, with_bodies
from toolkit.graph.precision.policy import POLICIES
from toolkit.graph.precision.precision_pass import precision_pass
from toolkit.graph.signed_codes import sign_codes
from toolkit.graph.steps import Step, take_steps
from toolkit.graph.weights import split_weights
from toolkit.ops.bodies import attach_bodies, custom_nodes, detach_bodies, fill_left_out
from toolkit.ops.spec import DOMAIN, OLDEST_OPSET, CustomOp, registered_schemas
from toolkit.specs import Submodule
from toolkit.storage.external_weights import external_names
from toolkit.storage.files import sha256_file

NEWEST_IN_FUNCTIONS = 18
"""The opset up to which functions use operators that TensorRT has; it lacks DeformConv, which came next."""
FP8_TYPES = (TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2)
OLDEST_FP8 = 8.9
"""The compute capability from which on GPUs have products of FP8."""


@dataclass(frozen=True)
class PreparedModel:
    """A model as it goes to TensorRT, and what came of comparing it with the one it was made of, a sentence each."""

    model: ModelProto
    checks: tuple[str, ...]


def prepare_model(
    source: Path, ops: Sequence[CustomOp], submodules: Sequence[Submodule], settings: BuildSettings
) -> PreparedModel:
    """The model of a file as it goes to TensorRT; `submodules` say what of them stays in FP32.

    All that must not change what the model computes is compared with it in ONNX Runtime; what a lower precision rounds
    cannot be. Raises InputError if the file is no ONNX model, if a custom op is none of `ops`, or if the profiles or
    the patterns of what to keep in FP32 do not fit the model, or it is FP8 and a GPU to build for has none; CheckFailed
    if the comparison finds another model.
    """
    model = with_bodies(read_model(source), ops)
    check_profiles(model, settings.profiles, source)
    check_capabilities(model, settings.capabilities, source)
    opset = POLICIES[settings.precision].opset if settings.precision in POLICIES else OLDEST_OPSET
    raised = raised_lines(model, opset)
    functions = settings.custom_ops is CustomOps.FUNCTION
    newest = NEWEST_IN_FUNCTIONS if functions else None
    conversion = Step(f"the conversion to opset {opset}", lambda before: raise_opset(before, opset, ops))
    if settings.precision in POLICIES:
        policy = replace(POLICIES[settings.precision], keep=settings.keep_fp32)
        policy = policy.with_exceptions(submodules).with_ops(ops)
        model, found = take_steps(
            model, [conversion, Step("onnx-graphsurgeon", lambda before: run_passes(before, (), ops)[0])]
        )
        model, _ = run_passes(model, [precision_pass(policy)], ops)
        attach_bodies(model, ops, newest=newest)
        rounded = f"not compared: what {policy.label} rounds; `verify` judges the engine on its GPU"
        checks = (*raised, found, rounded)
    else:
        exchange = partial(with_own_bodies, ops=ops, newest=newest)
        model, found = take_steps(model, [conversion, Step("exchanging the functions behind custom ops", exchange)])
        checks = (*raised, found)
    if not functions:
        detach_bodies(model)
        fill_left_out(model, ops)
    sign_codes(model)
    return PreparedModel(model, checks)


def with_own_bodies(model: ModelProto, ops: Sequence[CustomOp], newest: int | None) -> ModelProto:
    """A copy of the model in which the functions behind custom nodes are those that `ops` state, up to an opset."""
    light, weights = split_weights(model)
    light.graph.initializer.extend(weights.values())
    attach_bodies(light, ops, newest=newest)
    return light


def check_profiles(model: ModelProto, profiles: Mapping[str, ShapeRange], source: Path) -> None:
    """Raise InputError unless every input with open sizes has a profile that fits it, and no other input is named."""
    weights = {weight.name for weight in model.graph.initializer}
    inputs = {value.name: open_shape(value) or [] for value in model.graph.input if value.name not in weights}
    for name in profiles:
        if name not in inputs:
            raise InputError(f"--profile names input {name!r}, which {source} has not; it has {', '.join(inputs)}")
    for name, shape in inputs.items():
        stated = f"input {name!r} of {source} has the shape {'x'.join(map(str, shape))}"
        if name not in profiles:
            if not all(isinstance(size, int) for size in shape):
                raise InputError(f"{stated}; give its open sizes a range: --profile {name}:MIN:OPT:MAX")
            continue
        ranges = profiles[name]
        for given in (ranges.smallest, ranges.usual, ranges.largest):
            fits = len(given) == len(shape) and all(
                not isinstance(size, int) or size == fixed for size, fixed in zip(shape, given, strict=True)
            )
            if not fits:
                raise InputError(f"{stated}; --profile gives it {'x'.join(map(str, given))}")


def check_capabilities(model: ModelProto, capabilities: Sequence[str], source: Path) -> None:
    """Raise InputError if a model has FP8 codes, and a compute capability to build for is too old for them."""
    if not any(weight.data_type in FP8_TYPES for weight in model.graph.initializer):
        return
    fit = [name for name in capabilities if float(name) >= OLDEST_FP8]
    if len(fit) < len(capabilities):
        old = next(name for name in capabilities if name not in fit)
        raise InputError(
            f"{source} is quantized to FP8, which GPUs of compute capability {old} do not have; build it with "
            f"--compute-capability {','.join(fit) or OLDEST_FP8}"
        )


def plugin_ops(model: Path, ops: Sequence[CustomOp], source: Path) -> list[CustomOp]:
    """Those of `ops` that the model calls with no local function behind them, which TensorRT would prefer to a plugin.

    Raises InputError, which names `source`, unless each of its nodes of domain ``uniad`` is a valid call of one of
    `ops`: TensorRT itself would take a faulty one for a missing plugin.
    """
    proto = onnx.load(model, load_external_data=False)
    bodies = {(function.name, function.overload) for function in proto.functions if function.domain == DOMAIN}
    nodes = list(custom_nodes(proto.graph.node))
    by_name = {op.name: op for op in ops}
    for node in nodes:
        if node.op_type not in by_name:
            raise InputError(
                f"{source} uses the custom op {node.op_type!r} (node {node.name!r}), which no loaded plugin has; "
                "load the plugin it comes from"
            )
    try:
        with registered_schemas(ops):
            onnx.checker.check_model(str(model))
    except onnx.checker.ValidationError as error:
        raise InputError(f"{source} is not valid: {' '.join(str(error).split())}; export it again") from error
    called = {node.op_type for node in nodes if (node.op_type, node.overload) not in bodies}
    return [op for op in ops if op.name in called]


def model_digests(source: Path) -> dict[str, str]:
    """sha256 of a model's file and of the files beside it that hold its weights, by name.

    Raises InputError if one cannot be read.
    """
    external = external_names(onnx.load(source, load_external_data=False))
    try:
        return {name: sha256_file(source.parent / name) for name in (source.name, *external)}
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}; put it beside {source}") from error
