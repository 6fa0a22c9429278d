"""A custom op as a quickly deployable TensorRT plugin: its compiled kernel goes into the engine.

Such an engine runs without Python, CuPy or this toolkit. It is for the full TensorRT, 10.9 and later; its module is
passed in.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from types import GenericAlias, ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import InputError
from toolkit.ops.kernel import Launch, Shapes, dense_strides, is_given
from toolkit.ops.nvrtc import compile_kernel
from toolkit.ops.open_size import OpenSize
from toolkit.ops.spec import DOMAIN, VERSION, Attributes, CustomOp
from toolkit.ops.tensorrt_types import output_type, own_type

ANNOTATIONS: dict[str, Any] = {
    "int": NDArray[np.int32],
    "bool": NDArray[np.int32],
    "List[int]": NDArray[np.int32],
    "List[float]": NDArray[np.float32],
    "float": NDArray[np.float32],
    "str": str,
}
"""How TensorRT is told the type of an attribute, by its torch schema type."""


def register_embedded_plugins(trt: ModuleType, ops: Sequence[CustomOp], architecture: str) -> None:
    """Make the ops known to TensorRT's parser as plugins whose PTX, for ``compute_XY``, goes into the engine.

    Needed before a model that uses them is parsed, once per process; an engine with them needs nothing. Raises
    InputError if an op lacks what a plugin needs, or if the plugin of its name that runs in Python is registered.
    """
    for op in ops:
        register_embedded(trt, op, architecture)


@functools.cache
def register_embedded(trt: ModuleType, op: CustomOp, architecture: str) -> None:
    op.require_plugin()
    if trt.get_plugin_registry().get_creator(op.name, str(VERSION), DOMAIN) is not None:
        raise InputError(f"TensorRT already has another plugin {op.name!r}; build its other form in another process")
    quick = importlib.import_module(f"{trt.__name__}.plugin")
    identity = f"{DOMAIN}::{op.name}"
    quick.register(identity)(description(trt, quick, op))
    quick.aot_impl(identity)(implementation(trt, quick, op, architecture))


def description(trt: ModuleType, quick: ModuleType, op: CustomOp) -> Callable[..., Any]:
    """The function that tells TensorRT an op's outputs, with the signature that it reads the op's schema from."""

    def describe(*inputs: Any, **values: Any) -> Any:
        attributes = python_values(op, values)
        sizes = op.output_shapes([symbolic_shape(quick, tensor) for tensor in inputs], attributes)
        types = [tensor.dtype for tensor in inputs]
        described = [
            quick.from_shape_expr(expressions(quick, shape), output_type(trt, op, port, types))
            for port, shape in zip(op.signature.outputs, sizes, strict=True)
        ]
        return described[0] if len(described) == 1 else tuple(described)

    several = GenericAlias(tuple, (quick.TensorDesc,) * len(op.outputs))
    return with_signature(describe, parameters(quick, op), quick.TensorDesc if len(op.outputs) == 1 else several)


def implementation(trt: ModuleType, quick: ModuleType, op: CustomOp, architecture: str) -> Callable[..., Any]:
    """The function that gives TensorRT an op's kernel for inputs of known types, and its launch."""

    def implement(*arguments: Any) -> tuple[str, bytes, Any, Any]:
        assert op.kernel is not None
        inputs, values = arguments[: len(op.inputs)], arguments[len(op.inputs) : -2]  # then the outputs and the tactic
        attributes = python_values(op, dict(zip(op.attributes, values, strict=True)))
        shapes = [symbolic_shape(quick, tensor, tensor.shape) for tensor in inputs]
        strides, dtype = [dense_strides(shape) for shape in shapes], scalar(trt, op, inputs, shapes)
        try:
            launch = op.kernel.plan(shapes, strides, dtype, attributes)
        except (TypeError, AttributeError) as error:
            raise InputError(f"the plan of op {op.name!r} cannot do without fixed sizes ({error})") from error
        code = compile_kernel(op.kernel.source, architecture, constant_macros(op, launch))
        grid = dict(zip(("grid_x", "grid_y", "grid_z"), expressions(quick, launch.grid), strict=True))
        parameters = quick.KernelLaunchParams(**grid, block_x=launch.block)
        integers = quick.SymExprs.from_tuple(expressions(quick, launch.integers))
        return op.kernel.entry, code, parameters, integers

    given = GenericAlias(tuple, (quick.TensorDesc,) * len(op.outputs))
    outputs = Parameter("outputs", Parameter.POSITIONAL_OR_KEYWORD, annotation=given)
    tactic = Parameter("tactic", Parameter.POSITIONAL_OR_KEYWORD, annotation=int)
    returned = GenericAlias(tuple, (str, bytes, quick.KernelLaunchParams, quick.SymExprs))
    return with_signature(implement, [*parameters(quick, op), outputs, tactic], returned)


def parameters(quick: ModuleType, op: CustomOp) -> list[Parameter]:
    """An op's inputs and attributes as TensorRT wants them declared."""
    types = dict.fromkeys(op.inputs, quick.TensorDesc)
    types |= {name: ANNOTATIONS[kind] for name, kind in op.attributes.items()}
    return [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, annotation=kind) for name, kind in types.items()]


def with_signature(function: Any, parameters: Sequence[Parameter], returned: Any) -> Callable[..., Any]:
    function.__signature__ = Signature(parameters, return_annotation=returned)
    return function  # type: ignore[no-any-return]


def python_values(op: CustomOp, given: Attributes) -> dict[str, Any]:
    """Attributes as the op takes them, from how TensorRT hands them over."""
    return op.signature.values({name: python_value(op.attributes[name], value) for name, value in given.items()})


def python_value(kind: str, value: Any) -> Any:
    if kind == "str":
        return value.rstrip("\0")  # the parser keeps a terminating zero
    numbers = np.ravel(value).tolist()
    return numbers if kind.startswith("List") else numbers[0]


def symbolic_shape(quick: ModuleType, tensor: Any, shape: Any = None) -> list[Any]:
    """A tensor's sizes: integers where they are constant, else as `OpenSize`; `shape` tells the usual ones."""
    usual: Sequence[int | None] = [None] * len(tensor.shape_expr)
    if shape is not None:
        usual = shape.opt if shape.is_dynamic else tuple(shape)
    return [
        OpenSize(quick, size, value) if size.is_fake or not size.is_constant else size.constant_value()
        for size, value in zip(tensor.shape_expr, usual, strict=True)
    ]


def expressions(quick: ModuleType, sizes: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(size.expression if isinstance(size, OpenSize) else quick.ShapeExpr(int(size)) for size in sizes)


def scalar(trt: ModuleType, op: CustomOp, inputs: Sequence[Any], shapes: Shapes) -> str:
    """The one floating-point type of the inputs that share one; FP32 if none does.

    Raises InputError for any other, and for an input that has not the type which the op states for it.
    """
    names = {trt.DataType.FLOAT: "float32", trt.DataType.HALF: "float16"}
    shared = []
    for port, tensor, shape in zip(op.signature.inputs, inputs, shapes, strict=True):
        if port.dtype is not None:
            if tensor.dtype != own_type(trt, port.dtype):
                raise InputError(
                    f"plugin {op.name!r} takes {port.name!r} as {port.dtype}, but got {tensor.dtype}; add a cast"
                )
        elif not port.optional or is_given(shape):
            shared.append(tensor.dtype)
    types = set(shared)
    if len(types) > 1 or not types <= set(names):
        given = ", ".join(str(dtype) for dtype in shared)
        raise InputError(f"plugin {op.name!r} takes tensors of one type, FP32 or FP16, but got {given}; add casts")
    return names[types.pop()] if types else "float32"


def constant_macros(op: CustomOp, launch: Launch) -> Attributes:
    """The plan's macros. Raises InputError for one that is open: the kernel would be right for one size only."""
    for name, value in launch.macros.items():
        if isinstance(value, OpenSize):
            raise InputError(f"plugin {op.name!r} needs a fixed size for {name}; export the model with fixed shapes")
    return launch.macros
