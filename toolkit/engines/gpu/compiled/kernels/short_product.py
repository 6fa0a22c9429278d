"""The kernel behind products of short sums: all of a sum is asked for at once, the weight before anything else."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from toolkit.engines.gpu.compiled.kernels.product import PAIR_SCALE, finite_sum, product_of_pairs, rounded


@triton.jit
def short_product_kernel(
    x,
    weight,
    bias,
    out,
    rows,
    columns,
    pitch,
    LENGTH: tl.constexpr,
    PARTS: tl.constexpr,
    RELU: tl.constexpr,
    EARLY: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """out[m, n] = sum over k of x[m, k] weight[n, k], + bias[n], then ReLU, both where wanted.

    Sums are of LENGTH, a multiple of BLOCK_K. Weights are constants, so with EARLY a program reads them before it waits
    for the kernel before; pitch, EARLY and ALIGNED are those of `product_kernel`.
    """
    tiles_n = tl.cdiv(columns, BLOCK_N)
    m = tl.program_id(0) // tiles_n * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(0) % tiles_n * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    in_rows, in_columns = m < rows, n < columns
    x_tile = x + tl.multiple_of(m * pitch, ALIGNED)[:, None] + k[None, :]
    weight_tile = weight + n[None, :] * LENGTH + k[:, None]

    high, low, factors = (), (), ()
    for first in tl.static_range(0, LENGTH, BLOCK_K):
        high += (tl.load(weight_tile + first, mask=in_columns[None, :], other=0.0),)
        if PARTS == 2:
            low += (tl.load(weight_tile + columns * LENGTH + first, mask=in_columns[None, :], other=0.0),)
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    for first in tl.static_range(0, LENGTH, BLOCK_K):
        factors += (tl.load(x_tile + first, mask=in_rows[:, None], other=0.0),)
    if PARTS == 2:
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for step in tl.static_range(LENGTH // BLOCK_K):
            total += product_of_pairs(factors[step] * PAIR_SCALE, high[step], low[step])
        total /= PAIR_SCALE * PAIR_SCALE
        total = finite_sum(
            total, x_tile, weight_tile, 0, LENGTH // BLOCK_K, 0, 0, in_rows, in_columns, columns, LENGTH, pitch, 1, 1,
            1, 1, ALIGNED, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip
    else:
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for step in tl.static_range(LENGTH // BLOCK_K):
            if weight.dtype.element_ty == tl.float32:
                total = tl.dot(rounded(factors[step]), high[step], total, input_precision="tf32")
            else:
                total = tl.dot(factors[step].to(weight.dtype.element_ty), high[step], total)

    if bias is not None:
        total += tl.load(bias + n, mask=in_columns, other=0.0)[None, :]
    if RELU:
        total = tl.maximum(total, 0.0)
    tl.store(out + m[:, None] * columns + n[None, :], total, mask=in_rows[:, None] & in_columns[None, :])
