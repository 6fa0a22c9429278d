"""Inverse of small matrices in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from toolkit.ops.cuda import launch_on
from toolkit.ops.kernel import SCALARS, Kernel, Launch, Shapes
from toolkit.ops.spec import Attributes, CustomOp


@torch.library.custom_op("uniad::inverse", mutates_args=())
def inverse(matrix: Tensor) -> Tensor:
    """Inverse of matrix [..., 3, 3] by its adjugate."""
    rows = [matrix[..., i, :] for i in range(3)]
    adjugate = torch.stack([torch.linalg.cross(rows[(i + 1) % 3], rows[(i + 2) % 3]) for i in range(3)], -1)
    determinant = (rows[0] * adjugate[..., 0]).sum(-1)
    return adjugate / determinant[..., None, None]


def output_shape(shapes: Shapes, attributes: Attributes) -> Sequence[int]:
    """That of the matrices."""
    return shapes[0]


@inverse.register_fake
def _(matrix: Tensor) -> Tensor:
    return matrix.new_empty(output_shape([matrix.shape], {}))


def body(attributes: Attributes) -> str:
    """Adjugate from the cross products of the rows, divided by the determinant."""
    return """
    <domain: "uniad", opset_import: ["" : 18]>
    Inverse (matrix) => (output)
    {
        next = Constant <value_ints: ints = [1, 2, 0]> ()
        after = Constant <value_ints: ints = [2, 0, 1]> ()
        first = Constant <value_ints: ints = [0]> ()
        last = Constant <value_ints: ints = [-1]> ()
        a = Gather <axis: int = -2> (matrix, next)
        b = Gather <axis: int = -2> (matrix, after)
        a_next = Gather <axis: int = -1> (a, next)
        a_after = Gather <axis: int = -1> (a, after)
        b_next = Gather <axis: int = -1> (b, next)
        b_after = Gather <axis: int = -1> (b, after)
        positive = Mul (a_next, b_after)
        negative = Mul (a_after, b_next)
        cross = Sub (positive, negative)
        products = Mul (matrix, cross)
        determinants = ReduceSum <keepdims: int = 1> (products, last)
        determinant = Gather <axis: int = -2> (determinants, first)
        scaled = Div (cross, determinant)
        shape = Shape (matrix)
        square = Constant <value_ints: ints = [-1, 3, 3]> ()
        flat = Reshape (scaled, square)
        transposed = Transpose <perm: ints = [0, 2, 1]> (flat)
        output = Reshape (transposed, shape)
    }
    """


def example() -> tuple[Tensor]:
    """One matrix."""
    return (torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 4.0]]),)


THREADS = 128


def plan(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
    """One thread a matrix."""
    count = math.prod(shapes[0][:-2])
    return Launch({"SCALAR": SCALARS[dtype]}, (count,), (-(-count // THREADS), 1, 1), THREADS)


KERNEL = Kernel(Path(__file__).with_name("kernel.cu"), "inverse", plan)
INVERSE = CustomOp("Inverse", inverse, body, KERNEL, example, output_shape)


@inverse.register_kernel("cuda")
def _(matrix: Tensor) -> Tensor:
    matrix = matrix.contiguous()
    return launch_on(KERNEL, (matrix,), torch.empty_like(matrix))
