"""The best scores and where they are: two outputs, of which one holds integers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
import torch
from onnx_ir import Value
from onnxscript import OpBuilder
from torch import Tensor

from toolkit.ops.cuda import launch_op
from toolkit.ops.kernel import SCALARS, Kernel, Launch, Shapes, ceil_div
from toolkit.ops.spec import Attributes, CustomOp
from toolkit.ops.traced_body import NodeAttributes, TracedBody


@torch.library.custom_op("uniad_tests::top_scores", mutates_args=())
def top_scores(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of scores [N], the first of equal ones first -> values [count], indices int32 [count]."""
    values, indices = scores.sort(descending=True, stable=True)
    return values[:count].clone(), indices[:count].int()


def output_shape(shapes: Shapes, attributes: Attributes) -> Sequence[Sequence[int]]:
    """As many of both as are asked for."""
    return (attributes["count"],), (attributes["count"],)


@top_scores.register_fake
def _(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    return scores.new_empty(count), scores.new_empty(count, dtype=torch.int32)


@TracedBody
def body(op: OpBuilder, attributes: NodeAttributes, scores: Value) -> tuple[Value, Value]:
    """TopK, whose indices are of 64 bits."""
    values, indices = op.TopK(scores, op.Reshape(attributes.tensor("count"), [1]), _outputs=2)
    return values, op.Cast(indices, to=ir.DataType.INT32)


def example() -> tuple[Tensor, int]:
    """Eleven scores, two of them equal."""
    scores = torch.rand(11, generator=torch.Generator().manual_seed(0))
    scores[7] = scores[2]
    return scores, 6


THREADS = 64


def plan(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
    """One thread a score, which counts those before it."""
    count = shapes[0][0]
    return Launch({"SCALAR": SCALARS[dtype]}, (count, attributes["count"]), (ceil_div(count, THREADS), 1, 1), THREADS)


KERNEL = Kernel(Path(__file__).with_name("top_scores.cu"), "top_scores", plan)
TOP_SCORES = CustomOp(
    "TopScores",
    top_scores,
    body,
    KERNEL,
    example,
    output_shape,
    outputs=("values", "indices"),
    types={"indices": "int32"},
)


@top_scores.register_kernel("cuda")
def _(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    values, indices = launch_op(TOP_SCORES, scores, count)
    return values, indices
