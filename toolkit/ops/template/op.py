"""A smooth gate: x * sigmoid(slope * x)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from onnx_ir import Value
from onnxscript import OpBuilder
from torch import Tensor

from toolkit.hookspecs import hookimpl
from toolkit.ops.cuda import launch_op
from toolkit.ops.gradient import register_gradient
from toolkit.ops.kernel import SCALARS, Kernel, Launch, Shapes, ceil_div
from toolkit.ops.spec import Attributes, CustomOp
from toolkit.ops.traced_body import NodeAttributes, TracedBody


@torch.library.custom_op("uniad::new_op", mutates_args=())
def new_op(x: Tensor, slope: float) -> Tensor:
    """x of any shape -> the same shape."""
    return x * (slope * x).sigmoid()


def output_shape(shapes: Shapes, attributes: Attributes) -> Sequence[int]:
    """The output's shape from those of the inputs."""
    return shapes[0]


@new_op.register_fake
def _(x: Tensor, slope: float) -> Tensor:
    return x.new_empty(output_shape([x.shape], {}))


@TracedBody
def body(op: OpBuilder, attributes: NodeAttributes, x: Value) -> Value:
    """The same by standard operators of ONNX: what runs where there is no kernel."""
    return x * op.Sigmoid(x * attributes["slope"])


def example() -> tuple[Tensor, float]:
    """Arguments of one small call, which tests the op wherever it is installed."""
    return torch.linspace(-4, 4, 101), 1.5


THREADS = 256


def plan(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
    """One thread an element. Attributes become macros, sizes run-time integers, by + - * // and `ceil_div` alone."""
    count = math.prod(shapes[0])
    macros = {"SCALAR": SCALARS[dtype], "SLOPE": f"{attributes['slope']}f"}
    return Launch(macros, (count,), (ceil_div(count, THREADS), 1, 1), THREADS)


KERNEL = Kernel(Path(__file__).with_name("kernel.cu"), "new_op", plan)
NEW_OP = CustomOp("NewOp", new_op, body, KERNEL, example, output_shape)
register_gradient(NEW_OP)


@torch.library.impl("uniad::new_op", "cuda")
def _(x: Tensor, slope: float) -> Tensor:
    return launch_op(NEW_OP, x, slope)


@hookimpl
def uniad_custom_ops() -> Sequence[CustomOp]:
    """Offers the op to the toolkit."""
    return (NEW_OP,)
