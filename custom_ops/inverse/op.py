"""Inverse of small matrices in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from toolkit.errors import InputError
from toolkit.ops.cuda import launch_on
from toolkit.ops.gradient import register_gradient
from toolkit.ops.kernel import SCALARS, Kernel, Launch, Shapes, ceil_div
from toolkit.ops.spec import Attributes, CustomOp
from toolkit.ops.traced_body import NodeAttributes, TracedBody

if TYPE_CHECKING:
    from onnx_ir import Value
    from onnxscript import OpBuilder


@torch.library.custom_op("uniad::inverse", mutates_args=())
def inverse(matrix: Tensor) -> Tensor:
    """Inverse of matrix [..., N, N], N at most 4, by its cofactors; in FP32 at least.

    A smaller matrix is completed to 4x4 by the identity. The cofactor of row i and column j is the determinant of rows
    i^1, i^2, i^3 and columns j^1, j^2, j^3 in this order (^ is XOR): no sign is needed, as the permutations are even.
    A singular matrix gives infinities or NaN. Raises InputError for another shape.
    """
    check_shape(matrix.shape)
    size = matrix.shape[-1]
    wide = matrix if matrix.dtype == torch.float64 else matrix.float()
    full = torch.eye(4, dtype=wide.dtype, device=wide.device).repeat(*matrix.shape[:-2], 1, 1)
    full[..., :size, :size] = wide
    orders = [[i ^ step for i in range(4)] for step in (1, 2, 3)]
    a, b, c = ([full[..., rows, :][..., columns] for columns in orders] for rows in orders)
    cofactors = (
        a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0])
    )
    determinant = (full[..., 0, :] * cofactors[..., 0, :]).sum(-1)
    inverted = cofactors.mT / determinant[..., None, None]
    return inverted[..., :size, :size].to(matrix.dtype, memory_format=torch.contiguous_format, copy=True)


def check_shape(shape: Sequence[int]) -> None:
    """Raise InputError unless this is the shape of square matrices of one to four rows."""
    if len(shape) < 2 or shape[-1] != shape[-2] or not 1 <= shape[-1] <= 4:
        raise InputError(f"inverse takes matrices [..., N, N] with N from 1 to 4, not {list(shape)}")


def output_shape(shapes: Shapes, attributes: Attributes) -> Sequence[int]:
    """That of the matrices."""
    return shapes[0]


@inverse.register_fake
def _(matrix: Tensor) -> Tensor:
    return matrix.new_empty(output_shape([matrix.shape], {}))


@TracedBody
def body(op: OpBuilder, attributes: NodeAttributes, matrix: Value) -> Value:
    """The same, over matrices [M, N, N]."""
    import onnx_ir as ir

    float32 = ir.DataType.FLOAT
    size = op.Shape(matrix, start=-1)
    size_twice = op.Concat(size, size, axis=0)
    flat = op.Reshape(op.Cast(matrix, to=float32), op.Concat([-1], size_twice, axis=0))
    padded = op.Pad(flat, op.Concat([0, 0, 0, 0], 4 - size, 4 - size, axis=0))
    identity = op.Constant(value=ir.tensor(np.eye(4, dtype=np.float32)))
    full = padded + identity * op.Cast(op.GreaterOrEqual([0, 1, 2, 3], size), to=float32)
    orders = [[i ^ step for i in range(4)] for step in (1, 2, 3)]
    a, b, c = ([op.Gather(op.Gather(full, i, axis=-2), j, axis=-1) for j in orders] for i in orders)
    cofactors = (
        a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0])
    )
    determinant = op.Gather(op.ReduceSum(full * cofactors, [-1], keepdims=1), [0], axis=-2)
    inverted = op.Transpose(cofactors / determinant, perm=[0, 2, 1])
    return op.CastLike(op.Reshape(op.Slice(inverted, [0, 0], size_twice, [1, 2]), op.Shape(matrix)), matrix)


def example() -> tuple[Tensor]:
    """One matrix."""
    return (torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 4.0]]),)


THREADS = 128


def plan(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
    """One thread a matrix."""
    check_shape(shapes[0])
    count = math.prod(shapes[0][:-2])
    macros: dict[str, str | int] = {"SCALAR": SCALARS[dtype], "SIZE": shapes[0][-1], "THREADS": THREADS}
    return Launch(macros, (count,), (ceil_div(count, THREADS), 1, 1), THREADS)


KERNEL = Kernel(Path(__file__).with_name("kernel.cu"), "inverse", plan)
INVERSE = CustomOp("Inverse", inverse, body, KERNEL, example, output_shape)

register_gradient(INVERSE)


@torch.library.impl("uniad::inverse", "cuda")
def _(matrix: Tensor) -> Tensor:
    matrix = matrix.contiguous()
    return launch_on(KERNEL, (matrix,), torch.empty_like(matrix))
