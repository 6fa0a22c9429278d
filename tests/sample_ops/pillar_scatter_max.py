"""The largest features of the points in each cell of a grid; its body is a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from toolkit.hookspecs import hookimpl
from toolkit.ops.cuda import launch_op
from toolkit.ops.kernel import SCALARS, Kernel, Launch, Shapes, ceil_div
from toolkit.ops.spec import Attributes, CustomOp


@torch.library.custom_op("uniad_tests::pillar_scatter_max", mutates_args=())
def pillar_scatter_max(features: Tensor, cells: Tensor, height: int, width: int) -> Tensor:
    """Features [P, C] of pillars at cells [P, 2] (row, column), ignored outside -> [C, height, width], at least 0."""
    floored = cells.floor()
    row, column = floored.unbind(1)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    index = torch.where(inside, row * width + column, 0).long()
    values = torch.where(inside[:, None], features, 0).T.contiguous()
    grid = features.new_zeros(features.shape[1], height * width)
    grid = grid.scatter_reduce(1, index.expand_as(values), values, "amax")
    return grid.view(-1, height, width).contiguous()


def output_shape(shapes: Shapes, attributes: Attributes) -> Sequence[int]:
    """A plane for each feature."""
    return shapes[0][1], attributes["height"], attributes["width"]


@pillar_scatter_max.register_fake
def _(features: Tensor, cells: Tensor, height: int, width: int) -> Tensor:
    return features.new_empty(features.shape[1], height, width)


def body(attributes: Attributes) -> str:
    """ScatterElements, whose reduction by the largest opset 18 has."""
    return """
    <domain: "uniad", opset_import: ["" : 18]>
    PillarScatterMax <height, width> (features, cells) => (output) {
        height = Constant <value_int: int = @height> ()
        width = Constant <value_int: int = @width> ()
        zero = Constant <value = float {0}> ()
        one = Constant <value = int64[1] {1}> ()
        all = Constant <value = int64[1] {-1}> ()
        first = Constant <value = int64 {0}> ()
        second = Constant <value = int64 {1}> ()
        rows = CastLike (height, cells)
        columns = CastLike (width, cells)
        floored = Floor (cells)
        row = Gather <axis = 1> (floored, first)
        column = Gather <axis = 1> (floored, second)
        below = GreaterOrEqual (row, zero)
        above = Less (row, rows)
        left = GreaterOrEqual (column, zero)
        right = Less (column, columns)
        vertical = And (below, above)
        horizontal = And (left, right)
        inside = And (vertical, horizontal)
        start = Mul (row, columns)
        anywhere = Add (start, column)
        somewhere = Where (inside, anywhere, zero)
        index = Cast <to = 7> (somewhere)
        inside_column = Unsqueeze (inside, one)
        kept = Where (inside_column, features, zero)
        values = Transpose <perm = [1, 0]> (kept)
        indices_row = Unsqueeze (index, first)
        sizes = Shape (values)
        indices = Expand (indices_row, sizes)
        channels = Shape <start = 0, end = 1> (values)
        area = Mul (height, width)
        areas = Reshape (area, all)
        flat_shape = Concat <axis = 0> (channels, areas)
        empty = Expand (zero, flat_shape)
        flat = ScatterElements <axis = 1, reduction = "max"> (empty, indices, values)
        heights = Reshape (height, all)
        widths = Reshape (width, all)
        shape = Concat <axis = 0> (channels, heights, widths)
        output = Reshape (flat, shape)
    }
    """


def example() -> tuple[Tensor, Tensor, int, int]:
    """Forty pillars of three features on a grid of 5x7 cells, some outside it."""
    random = torch.Generator().manual_seed(0)
    cells = torch.rand(40, 2, generator=random) * torch.tensor([8.0, 6.0]) - 1
    return torch.rand(40, 3, generator=random), cells, 5, 7


THREADS = 128


def plan(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
    """One thread a cell and feature."""
    pillars, channels = shapes[0]
    height, width = attributes["height"], attributes["width"]
    macros: dict[str, str | int] = {"SCALAR": SCALARS[dtype], "HEIGHT": height, "WIDTH": width}
    return Launch(macros, (pillars, channels), (ceil_div(height * width, THREADS), channels, 1), THREADS)


KERNEL = Kernel(Path(__file__).with_name("pillar_scatter_max.cu"), "pillar_scatter_max", plan)
PILLAR_SCATTER_MAX = CustomOp("PillarScatterMax", pillar_scatter_max, body, KERNEL, example, output_shape)


@pillar_scatter_max.register_kernel("cuda")
def _(features: Tensor, cells: Tensor, height: int, width: int) -> Tensor:
    scattered: Tensor = launch_op(PILLAR_SCATTER_MAX, features, cells, height, width)
    return scattered


@hookimpl
def uniad_custom_ops() -> Sequence[CustomOp]:
    """Offers the op to the toolkit."""
    return (PILLAR_SCATTER_MAX,)
