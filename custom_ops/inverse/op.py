"""Inverse of small matrices in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from toolkit.errors import InputError
from toolkit.ops.cuda import launch_on
from toolkit.ops.kernel import SCALARS, Kernel, Launch, Shapes, ceil_div
from toolkit.ops.spec import Attributes, CustomOp


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


def body(attributes: Attributes) -> str:
    """The same, with a tensor for each of the nine entries of the determinants."""
    return """
    <domain: "uniad", opset_import: ["" : 18]>
    Inverse (matrix) => (output)
    {
        first = Constant <value_ints: ints = [0]> ()
        last = Constant <value_ints: ints = [-1]> ()
        four = Constant <value_ints: ints = [4]> ()
        places = Constant <value_ints: ints = [0, 1, 2, 3]> ()
        order1 = Constant <value_ints: ints = [1, 0, 3, 2]> ()
        order2 = Constant <value_ints: ints = [2, 3, 0, 1]> ()
        order3 = Constant <value_ints: ints = [3, 2, 1, 0]> ()
        matrix_axes = Constant <value_ints: ints = [1, 2]> ()
        corner_start = Constant <value_ints: ints = [0, 0]> ()
        no_pads = Constant <value_ints: ints = [0, 0, 0, 0]> ()
        identity = Constant <value: tensor = float[4, 4] {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}> ()
        shape = Shape (matrix)
        size = Shape <start: int = -1> (matrix)
        size_twice = Concat <axis: int = 0> (size, size)
        wide = Cast <to: int = 1> (matrix)
        flat_shape = Concat <axis: int = 0> (last, size_twice)
        flat = Reshape (wide, flat_shape)
        absent = Sub (four, size)
        pads = Concat <axis: int = 0> (no_pads, absent, absent)
        padded = Pad (flat, pads)
        is_absent = GreaterOrEqual (places, size)
        is_absent_wide = Cast <to: int = 1> (is_absent)
        completion = Mul (identity, is_absent_wide)
        full = Add (padded, completion)

        a = Gather <axis: int = -2> (full, order1)
        b = Gather <axis: int = -2> (full, order2)
        c = Gather <axis: int = -2> (full, order3)
        a1 = Gather <axis: int = -1> (a, order1)
        a2 = Gather <axis: int = -1> (a, order2)
        a3 = Gather <axis: int = -1> (a, order3)
        b1 = Gather <axis: int = -1> (b, order1)
        b2 = Gather <axis: int = -1> (b, order2)
        b3 = Gather <axis: int = -1> (b, order3)
        c1 = Gather <axis: int = -1> (c, order1)
        c2 = Gather <axis: int = -1> (c, order2)
        c3 = Gather <axis: int = -1> (c, order3)
        b2c3 = Mul (b2, c3)
        b3c2 = Mul (b3, c2)
        b3c1 = Mul (b3, c1)
        b1c3 = Mul (b1, c3)
        b1c2 = Mul (b1, c2)
        b2c1 = Mul (b2, c1)
        minor1 = Sub (b2c3, b3c2)
        minor2 = Sub (b3c1, b1c3)
        minor3 = Sub (b1c2, b2c1)
        term1 = Mul (a1, minor1)
        term2 = Mul (a2, minor2)
        term3 = Mul (a3, minor3)
        two_terms = Add (term1, term2)
        cofactors = Add (two_terms, term3)

        products = Mul (full, cofactors)
        determinants = ReduceSum <keepdims: int = 1> (products, last)
        determinant = Gather <axis: int = -2> (determinants, first)
        scaled = Div (cofactors, determinant)
        transposed = Transpose <perm: ints = [0, 2, 1]> (scaled)
        corner = Slice (transposed, corner_start, size_twice, matrix_axes)
        inverted = Reshape (corner, shape)
        output = CastLike (inverted, matrix)
    }
    """


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


@inverse.register_kernel("cuda")
def _(matrix: Tensor) -> Tensor:
    matrix = matrix.contiguous()
    return launch_on(KERNEL, (matrix,), torch.empty_like(matrix))
