"""Multi-scale deformable attention whose levels have different numbers of points, as D-FINE's decoder with 3, 6, 3.

An operator of its own, so that nodes and engines of the even form stay as they are. Both have one kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from custom_ops.multi_scale_deformable_attention.backward import ENTRY, SOURCE, launch_backward
from custom_ops.multi_scale_deformable_attention.op import (
    KERNEL,
    attend,
    check_sizes,
    dense_rows,
    launch,
    output_shape,
    weighted_sum,
)
from toolkit.errors import InputError
from toolkit.ops.cuda import launch_on
from toolkit.ops.gradient import register_gradient
from toolkit.ops.kernel import Kernel, Launch, Shapes
from toolkit.ops.spec import Attributes, CustomOp
from toolkit.ops.traced_body import NodeAttributes, TracedBody, reshape, sizes

if TYPE_CHECKING:
    from onnx_ir import Value
    from onnxscript import OpBuilder


@torch.library.custom_op("uniad::uneven_deformable_attention", mutates_args=())
def uneven_deformable_attention(
    value: Tensor,
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    spatial_shapes: Sequence[int],
    level_points: Sequence[int],
) -> Tensor:
    """`multi_scale_deformable_attention` with `level_points` on each level, K in all.

    offsets [B, Q, H, K*2] and logits [B, Q, H, K] hold the points of the first level, then those of the second …; the
    number D of reference points per query divides that of the points of each level. The rest is as there.
    """
    return attend(value, reference, offsets, logits, spatial_shapes, level_points)


@uneven_deformable_attention.register_fake
def _(
    value: Tensor,
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    spatial_shapes: Sequence[int],
    level_points: Sequence[int],
) -> Tensor:
    return value.new_empty(output_shape([value.shape, reference.shape], {}))


@TracedBody
def body(
    op: OpBuilder, attributes: NodeAttributes, value: Value, reference: Value, offsets: Value, logits: Value
) -> Value:
    """One GridSample per level, each on its part of the offsets; sizes and points of the levels are in the function."""
    points, shapes = attributes["level_points"], attributes["spatial_shapes"]
    levels = list(zip(shapes[::2], shapes[1::2], points, strict=True))
    batch, _, heads, channels = sizes(op, value, 4)
    reference_batch, queries, _, coordinates = sizes(op, reference, 4)
    batch_heads, references, samples = batch * heads, coordinates / [2], op.Shape(logits, start=3, end=4)

    around = op.Expand(reference, [1, 1, len(levels), 1])
    planes = parts(op, value, [height * width for height, width, _ in levels], axis=1)
    moves = parts(op, offsets, [2 * count for count in points], axis=3)
    sampled = []
    for level, (height, width, count) in enumerate(levels):
        origin = reshape(op, op.Gather(around, level, axis=2), reference_batch, queries, [1], [1], references, [2])
        move = reshape(op, moves[level], batch, queries, heads, op.Div([count], references), references, [2])
        grid = op.Transpose((origin + move / [float(width), float(height)]) * 2.0 - 1.0, perm=[0, 2, 1, 3, 4, 5])
        keys = reshape(op, op.Transpose(planes[level], perm=[0, 2, 3, 1]), batch_heads, channels, [height, width])
        grid = reshape(op, grid, batch_heads, queries, [count, 2])
        sampled.append(op.GridSample(keys, grid, padding_mode="zeros"))
    return weighted_sum(op, sampled, logits, (batch, queries, heads, channels), batch_heads, samples)


def parts(op: OpBuilder, tensor: Value, lengths: Sequence[int], axis: int) -> Sequence[Value]:
    """Neighbouring parts of a tensor along an axis."""
    split = op.Split(tensor, lengths, axis=axis, _outputs=len(lengths))
    return split if len(lengths) > 1 else [split]


def example() -> tuple[Tensor, Tensor, Tensor, Tensor, list[int], list[int]]:
    """Five queries of two heads with three points each on a map of 3x4 cells and six on one of 2x2, partly outside."""
    random = torch.Generator().manual_seed(0)
    value, reference = torch.rand(1, 16, 2, 4, generator=random), torch.rand(1, 5, 1, 2, generator=random)
    offsets, logits = torch.randn(1, 5, 2, 18, generator=random), torch.randn(1, 5, 2, 9, generator=random)
    return value, reference, offsets, logits, [3, 4, 2, 2], [3, 6]


def check_points(shapes: Shapes, spatial_shapes: Sequence[int], level_points: Sequence[int]) -> None:
    """Raise InputError unless the points are those of the logits, and a multiple of the reference points each."""
    levels, samples, references = len(spatial_shapes) // 2, shapes[3][3], shapes[1][3] // 2
    points = list(level_points)
    if len(points) != levels or sum(points) != samples or min(points, default=0) < 1:
        raise InputError(
            f"deformable attention has logits of {samples} points and {levels} levels, but level_points is {points}"
        )
    if any(count % references for count in points):
        raise InputError(
            f"deformable attention has {references} reference points per query, which level_points {points} do not "
            "use equally often"
        )


def plan(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
    """As for the even form, with points of the levels as they are."""
    check_points(shapes, attributes["spatial_shapes"], attributes["level_points"])
    return launch(shapes, strides, dtype, attributes["spatial_shapes"], attributes["level_points"])


def plan_backward(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
    """The same for the gradients."""
    check_points(shapes, attributes["spatial_shapes"], attributes["level_points"])
    check_sizes(shapes, attributes["spatial_shapes"])
    return launch_backward(shapes, dtype, attributes["spatial_shapes"], attributes["level_points"])


UNEVEN_KERNEL = Kernel(KERNEL.source, KERNEL.entry, plan)
UNEVEN_DEFORMABLE_ATTENTION = CustomOp(
    "UnevenDeformableAttention",
    uneven_deformable_attention,
    body,
    UNEVEN_KERNEL,
    example,
    output_shape,
    backward=Kernel(SOURCE, ENTRY, plan_backward),
)
register_gradient(UNEVEN_DEFORMABLE_ATTENTION)


@torch.library.impl("uniad::uneven_deformable_attention", "cuda")
def _(
    value: Tensor,
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    spatial_shapes: Sequence[int],
    level_points: Sequence[int],
) -> Tensor:
    output = value.new_empty(output_shape([value.shape, reference.shape], {}))
    inputs = (value.contiguous(), *(dense_rows(x) for x in (reference, offsets, logits)))
    return launch_on(UNEVEN_KERNEL, inputs, output, spatial_shapes=spatial_shapes, level_points=level_points)
