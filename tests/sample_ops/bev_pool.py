"""Features of points, weighted and summed up in the cells that their ranks name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from onnx_ir import Value
from onnxscript import OpBuilder
from torch import Tensor

from toolkit.ops.cuda import launch_op
from toolkit.ops.kernel import SCALARS, Kernel, Launch, Shapes, ceil_div
from toolkit.ops.spec import Attributes, CustomOp
from toolkit.ops.traced_body import NodeAttributes, TracedBody, sizes


@torch.library.custom_op("uniad_tests::bev_pool", mutates_args=())
def bev_pool(depth: Tensor, features: Tensor, ranks: Tensor, cells: int) -> Tensor:
    """Depth weights [N], features [N, C], ranks int32 [N] in [0, cells) -> [cells, C]."""
    weighted = features * depth[:, None]
    return features.new_zeros(cells, features.shape[1]).index_add(0, ranks, weighted)


def output_shape(shapes: Shapes, attributes: Attributes) -> Sequence[int]:
    """A row a cell."""
    return attributes["cells"], shapes[1][1]


@bev_pool.register_fake
def _(depth: Tensor, features: Tensor, ranks: Tensor, cells: int) -> Tensor:
    return features.new_empty(cells, features.shape[1])


@TracedBody
def body(op: OpBuilder, attributes: NodeAttributes, depth: Value, features: Value, ranks: Value) -> Value:
    """Rows added up where they belong."""
    _, channels = sizes(op, features, 2)
    shape = op.Concat([attributes["cells"]], channels, axis=0)
    zeros = op.CastLike(op.Expand(0.0, shape), features)
    rows = op.Expand(op.Unsqueeze(ranks, [1]), op.Shape(features))
    return op.ScatterElements(zeros, rows, features * op.Unsqueeze(depth, [1]), axis=0, reduction="add")


def example() -> tuple[Tensor, Tensor, Tensor, int]:
    """Nine points in four cells, one of which is empty."""
    random = torch.Generator().manual_seed(0)
    ranks = torch.tensor([0, 3, 1, 0, 0, 3, 1, 3, 0], dtype=torch.int32)
    return torch.rand(9, generator=random), torch.randn(9, 5, generator=random), ranks, 4


THREADS = 64


def plan(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
    """One thread a cell and channel, which looks at every point."""
    points, channels = shapes[1]
    grid = (ceil_div(channels, THREADS), attributes["cells"], 1)
    return Launch({"SCALAR": SCALARS[dtype]}, (points, channels), grid, THREADS)


KERNEL = Kernel(Path(__file__).with_name("bev_pool.cu"), "bev_pool", plan)
BEV_POOL = CustomOp("BevPool", bev_pool, body, KERNEL, example, output_shape, types={"ranks": "int32"})


@bev_pool.register_kernel("cuda")
def _(depth: Tensor, features: Tensor, ranks: Tensor, cells: int) -> Tensor:
    pooled: Tensor = launch_op(BEV_POOL, depth, features, ranks, cells)
    return pooled
