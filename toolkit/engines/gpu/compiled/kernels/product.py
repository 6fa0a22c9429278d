"""The kernel behind linear layers and convolutions: one matrix product on tensor cores with its epilogue."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

# The last 13 bits of an FP32 mantissa do not reach a tensor core; half of their range is added to round to nearest.
KEPT_BITS = tl.constexpr(0xFFFFE000)
HALF = tl.constexpr(0x1000)

# FP32 factors as two of FP16, which has as many bits of mantissa as TF32, but few of exponent.
PAIR_SCALE = tl.constexpr(64.0)  # both factors are multiplied by it: FP16 then reaches from 2e-13 to 1023
LOW_SCALE = tl.constexpr(2048.0)  # low parts, 11 bits smaller, by this in addition
SMALLER = tl.constexpr(2.0**-24)  # the scale of another try, where a factor of `x` was too large
LEAST_SCALE = tl.constexpr(2.0**-114)  # with which the largest of FP32 fits


@triton.jit
def product_kernel(
    x,
    weight,
    bias,
    residual,
    out,
    partial,
    arrived,
    rows,
    columns,
    channels,
    pitch,
    height,
    width,
    out_height,
    out_width,
    splits,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    PARTS: tl.constexpr,
    RELU: tl.constexpr,
    SPLIT: tl.constexpr,
    EARLY: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """out[m, n] = sum over k of x[m, k] weight[n, k], + bias[n], + residual[m, n], then ReLU, all where wanted.

    A row m is a pixel of a channels-last image [batch, height, width, channels], k a tap of the kernel and a channel:
    an implicit matrix product, of which a linear layer is the case of one pixel and one tap. channels is a multiple of
    BLOCK_K; pitch is the distance of pixels in memory, a multiple of ALIGNED elements. EARLY lets the next kernel start
    while this one runs, and this one wait for the one before: on a GPU of compute capability 9.0 or more.
    """
    tile, split = tl.program_id(0), tl.program_id(1)
    tiles_n = tl.cdiv(columns, BLOCK_N)
    m = tile // tiles_n * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile % tiles_n * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    pixel = m % (out_height * out_width)
    top = pixel // out_width * STRIDE - PADDING
    left = pixel % out_width * STRIDE - PADDING
    corner = ((m // (out_height * out_width) * height + top) * width + left) * pitch
    corner = tl.multiple_of(corner, ALIGNED)
    length = KERNEL_H * KERNEL_W * channels
    x_tile = x + corner[:, None] + k[None, :]
    weight_tile = weight + n[None, :] * length + k[:, None]
    in_rows, in_columns = m < rows, n < columns

    steps = length // BLOCK_K
    first, last = 0, steps
    if SPLIT:
        share = tl.cdiv(steps, splits)
        first, last = split * share, min(steps, (split + 1) * share)
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    if PARTS == 2:
        total = sum_of_pairs(
            x_tile, weight_tile, first, last, top, left, in_rows, in_columns, columns, channels, pitch, height, width,
            PAIR_SCALE, KERNEL_H, KERNEL_W, ALIGNED, BLOCK_M, BLOCK_N, BLOCK_K,
        ) / (PAIR_SCALE * PAIR_SCALE)  # fmt: skip
        total = finite_sum(
            total, x_tile, weight_tile, first, last, top, left, in_rows, in_columns, columns, channels, pitch, height,
            width, KERNEL_H, KERNEL_W, ALIGNED, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip
    else:
        for step in range(first, last):
            offset = step * BLOCK_K
            shift, inside = tap_of(
                offset, top, left, in_rows, channels, pitch, height, width, KERNEL_H, KERNEL_W, ALIGNED
            )
            a = tl.load(x_tile + shift, mask=inside[:, None], other=0.0)
            b = tl.load(weight_tile + offset, mask=in_columns[None, :], other=0.0)
            if weight.dtype.element_ty == tl.float32:
                total = tl.dot(rounded(a), b, total, input_precision="tf32")
            else:
                total = tl.dot(a.to(b.dtype), b, total)

    at = m[:, None] * columns + n[None, :]
    valid = in_rows[:, None] & in_columns[None, :]
    if SPLIT:
        tl.store(partial + split * rows * columns + at, total, mask=valid)
        tl.debug_barrier()  # all of the tile is written before the block says so
        if tl.atomic_add(arrived + tile, 1, sem="acq_rel") < splits - 1:
            return
        tl.store(arrived + tile, 0)  # for the next launch
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for part in range(splits):  # in order, whoever came last: the same sum every time
            total += tl.load(partial + part * rows * columns + at, mask=valid, other=0.0, cache_modifier=".cg")
    if bias is not None:
        total += tl.load(bias + n, mask=in_columns, other=0.0)[None, :]
    if residual is not None:
        total += tl.load(residual + at, mask=valid, other=0.0)
    if RELU:
        total = tl.maximum(total, 0.0)
    tl.store(out + at, total, mask=valid)


@triton.jit
def sum_of_pairs(
    x_tile,
    weight_tile,
    first,
    last,
    top,
    left,
    in_rows,
    in_columns,
    columns,
    channels,
    pitch,
    height,
    width,
    scale,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The sum of a block over its steps, times `scale` and the weight's scale, by pairs of FP16."""
    length = KERNEL_H * KERNEL_W * channels
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in range(first, last):
        offset = step * BLOCK_K
        shift, inside = tap_of(offset, top, left, in_rows, channels, pitch, height, width, KERNEL_H, KERNEL_W, ALIGNED)
        a = tl.load(x_tile + shift, mask=inside[:, None], other=0.0) * scale
        b = tl.load(weight_tile + offset, mask=in_columns[None, :], other=0.0)
        b_low = tl.load(weight_tile + columns * length + offset, mask=in_columns[None, :], other=0.0)
        total += product_of_pairs(a, b, b_low)
    return total


@triton.jit
def product_of_pairs(a, b, b_low):
    """The product of scaled rows, which are split here, and a weight's pair, times what the weight's scale is."""
    a_high = a.to(tl.float16)
    a_low = ((a - a_high.to(tl.float32)) * LOW_SCALE).to(tl.float16)
    # Tensor cores truncate what they add to a sum, so the long sum is not theirs.
    part_sum = tl.dot(a_low, b)
    part_sum = tl.dot(a_high, b_low, part_sum) * (1 / LOW_SCALE)
    return tl.dot(a_high, b, part_sum)


@triton.jit
def finite_sum(
    total,
    x_tile,
    weight_tile,
    first,
    last,
    top,
    left,
    in_rows,
    in_columns,
    columns,
    channels,
    pitch,
    height,
    width,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """`total` where it is finite, else the sum with the largest smaller scale that makes it so, if one does.

    Rows lose no bits to another one of their block.
    """
    scale = 1.0
    while overflowed(total) & (scale > LEAST_SCALE):
        scale *= SMALLER
        again = sum_of_pairs(
            x_tile, weight_tile, first, last, top, left, in_rows, in_columns, columns, channels, pitch, height, width,
            scale * PAIR_SCALE, KERNEL_H, KERNEL_W, ALIGNED, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip
        total = tl.where(tl.abs(total) < float("inf"), total, again / (scale * (PAIR_SCALE * PAIR_SCALE)))
    return total


@triton.jit
def overflowed(total):
    """Whether an element is not finite."""
    return tl.max(tl.where(tl.abs(total) < float("inf"), 0, 1)) > 0


@triton.jit
def tap_of(
    offset,
    top,
    left,
    in_rows,
    channels,
    pitch,
    height,
    width,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    ALIGNED: tl.constexpr,
):
    """Where the elements of a step lie behind those of a pixel's first tap, and which pixels have them."""
    shift, inside = offset, in_rows
    if KERNEL_H * KERNEL_W > 1:
        tap = offset // channels
        row, column = tap // KERNEL_W, tap % KERNEL_W
        inside = in_rows & (top + row >= 0) & (top + row < height) & (left + column >= 0) & (left + column < width)
        shift = tl.multiple_of((row * width + column) * pitch + offset - tap * channels, ALIGNED)
    return shift, inside


@triton.jit
def rounded(value):
    """The nearest value with TF32's 10 bits of mantissa."""
    bits = value.to(tl.uint32, bitcast=True)
    return ((bits + HALF) & KEPT_BITS).to(tl.float32, bitcast=True)
