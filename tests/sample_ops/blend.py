"""A mean of maps at a height: an optional tensor, a list of tensors, coordinates that stay FP32, every attribute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from onnx_ir import Value
from onnxscript import OpBuilder
from torch import Tensor

from toolkit.ops.cuda import launch_op
from toolkit.ops.gradient import register_gradient
from toolkit.ops.kernel import SCALARS, Kernel, Launch, Shapes, ceil_div, is_given
from toolkit.ops.spec import Attributes, CustomOp
from toolkit.ops.traced_body import NodeAttributes, TracedBody


@torch.library.custom_op("uniad_tests::blend", mutates_args=())
def blend(
    maps: Sequence[Tensor],
    bias: Tensor | None,
    weights: Sequence[float],
    height: Tensor,
    scale: float = 2.0,
    *,
    negate: bool = False,
) -> Tensor:
    """Two maps [N], bias [N], weights (of either map), height float32 [N] in metres -> [N]."""
    blended = (maps[0] * weights[0] + maps[1] * weights[1]) * (height * scale).to(maps[0].dtype)
    if bias is not None:
        blended = blended + bias
    return -blended if negate else blended


def output_shape(shapes: Shapes, attributes: Attributes) -> Sequence[int]:
    """That of a map."""
    return shapes[0]


@blend.register_fake
def _(
    maps: Sequence[Tensor],
    bias: Tensor | None,
    weights: Sequence[float],
    height: Tensor,
    scale: float = 2.0,
    *,
    negate: bool = False,
) -> Tensor:
    return maps[0].new_empty(maps[0].shape)


@TracedBody
def body(op: OpBuilder, attributes: NodeAttributes, maps: Sequence[Value], bias: Value | None, height: Value) -> Value:
    """Two products and a sum; what is left out or false is not in the function."""
    first, second = (op.Gather(op.CastLike(attributes.tensor("weights"), maps[0]), i, axis=0) for i in (0, 1))
    blended = (maps[0] * first + maps[1] * second) * op.CastLike(height * attributes["scale"], maps[0])
    if bias is not None:
        blended = blended + bias
    return op.Neg(blended) if attributes["negate"] else blended


def example() -> tuple[list[Tensor], None, list[float], Tensor]:
    """Seven values without a bias; scale and negate by default."""
    random = torch.Generator().manual_seed(0)
    maps = [torch.randn(7, generator=random) for _ in range(2)]
    return maps, None, [0.25, 0.75], torch.linspace(-3, 3, 7)


THREADS = 64


def plan(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
    """One thread a value; so for the gradients, which have the shape of the output's gradient besides."""
    (count,), _, bias, *_ = shapes
    first, second = attributes["weights"]
    macros: dict[str, str | int] = {
        "SCALAR": SCALARS[dtype],
        "HAS_BIAS": int(is_given(bias)),
        "WEIGHTS": f"{first}f,{second}f",
        "SCALE": f"{attributes['scale']}f",
        "SIGN": "-" if attributes["negate"] else "+",
    }
    return Launch(macros, (count,), (ceil_div(count, THREADS), 1, 1), THREADS)


KERNEL = Kernel(Path(__file__).with_name("blend.cu"), "blend", plan)
BACKWARD = Kernel(Path(__file__).with_name("blend_backward.cu"), "blend_backward", plan)
BLEND = CustomOp(
    "Blend",
    blend,
    body,
    KERNEL,
    example,
    output_shape,
    types={"height": "float32"},
    lengths={"maps": 2},
    backward=BACKWARD,
)
register_gradient(BLEND)


@blend.register_kernel("cuda")
def _(
    maps: Sequence[Tensor],
    bias: Tensor | None,
    weights: Sequence[float],
    height: Tensor,
    scale: float = 2.0,
    *,
    negate: bool = False,
) -> Tensor:
    blended: Tensor = launch_op(BLEND, maps, bias, weights, height, scale, negate=negate)
    return blended
