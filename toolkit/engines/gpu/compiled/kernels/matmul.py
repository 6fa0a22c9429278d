"""Products of two computed matrices."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from toolkit.engines.gpu.compiled.kernels.attention import product


@triton.jit
def matmul_kernel(
    a,
    b,
    out,
    rows,
    columns,
    length,
    a_batch,
    a_row,
    b_batch,
    b_row,
    b_column,
    PRECISION: tl.constexpr,
    EARLY: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """out[z, m, n] = sum over k of a[z, m, k] b[z, k, n], each step of the sum by tensor cores, steps in FP32.

    The elements of a sum, a multiple of BLOCK_K, lie together in a; in b they do, or the columns. EARLY is that of
    `product_kernel`.
    """
    tile, batch = tl.program_id(0), tl.program_id(1)
    tiles_n = tl.cdiv(columns, BLOCK_N)
    m = tile // tiles_n * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile % tiles_n * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    in_rows, in_columns = m < rows, n < columns
    a_tile = a + batch * a_batch + m[:, None] * a_row + k[None, :]
    b_tile = b + batch * b_batch + n[None, :] * b_column + k[:, None] * b_row
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for at in range(0, length, BLOCK_K):
        x = tl.load(a_tile + at, mask=in_rows[:, None], other=0.0)
        y = tl.load(b_tile + at * b_row, mask=in_columns[None, :], other=0.0)
        total += product(x, y, 1.0, PRECISION)
    to = (batch * rows + m[:, None]) * columns + n[None, :]
    tl.store(out + to, total, mask=in_rows[:, None] & in_columns[None, :])
