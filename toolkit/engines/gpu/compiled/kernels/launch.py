"""Launches of the Triton kernels."""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor

from toolkit.engines.gpu.compiled.kernels.tiles import (
    attention_tile,
    matmul_tile,
    product_tile,
    sampling_tile,
    short_tile,
)
from toolkit.nn.attention import MASKED_LOGIT

ALIGNED = 16
"""Elements: a kernel that knows rows to begin at multiples of so many reads 16 bytes at a time, whatever their type."""
MOST_TRIMMED = 4096
"""Keys of which a program looks for the last valid one before it begins."""


def launch_product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    out: Tensor,
    arrived: Tensor,
    *,
    relu: bool,
    stride: int = 1,
    padding: int = 0,
) -> None:
    """Write the convolution of `x` [batch, height, width, channels] to `out` [batch, height', width', columns].

    `weight` is [parts, columns, kernel height, kernel width, channels]; with more channels than `x` has, they are those
    of neighbouring pixels of a row. `residual` is like `out`. Pixels lie at equal distances in `x`; all others are
    contiguous. `arrived` are int32 zeros, one for each block, and stay so: they count the programs that have done their
    share of a block's sum, which the last one adds up.
    """
    from toolkit.engines.gpu.compiled.kernels.product import product_kernel

    parts, columns, kernel_height, kernel_width, channels = weight.shape
    batch, height, width, _ = x.shape
    pitch = x.stride(0) if height * width == 1 else x.stride(2)
    _, out_height, out_width, _ = out.shape
    if (kernel_height, kernel_width, channels, stride, padding) == (1, 1, x.shape[3], 1, 0):  # as in a linear layer
        batch, height, width, out_height, out_width = batch * height * width, 1, 1, 1, 1
    rows = batch * out_height * out_width
    tile = product_tile(rows, weight)
    partial = x.new_empty((tile.splits, rows, columns), dtype=torch.float32) if tile.splits > 1 else out
    product_kernel[(tile.programs(rows, columns), tile.splits)](
        x, weight, bias, residual, out, partial, arrived,
        rows, columns, channels, pitch, height, width, out_height, out_width, tile.splits,
        STRIDE=stride, PADDING=padding, KERNEL_H=kernel_height, KERNEL_W=kernel_width, PARTS=parts, RELU=relu,
        SPLIT=tile.splits > 1, ALIGNED=gcd(pitch, ALIGNED),
        BLOCK_M=tile.rows, BLOCK_N=tile.columns, BLOCK_K=tile.summed,
        num_warps=tile.warps, num_stages=tile.stages, **_early(x.device),
    )  # fmt: skip


def launch_linear(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, arrived: Tensor, *, relu: bool) -> None:
    """Write a linear layer of `x` [rows, inputs] to `out` [rows, columns].

    `weight` is [parts, columns, inputs]. The inputs of a row lie together in `x`; all others are contiguous. `arrived`
    is as in `launch_product`, for products that are not short.
    """
    tile = short_tile(len(x), weight)
    if tile is None:
        image, result = x[:, None, None], out[:, None, None]
        launch_product(image, weight[:, :, None, None], bias, None, result, arrived, relu=relu)
        return
    from toolkit.engines.gpu.compiled.kernels.short_product import short_product_kernel

    parts, columns, inputs = weight.shape
    short_product_kernel[(tile.programs(len(x), columns),)](
        x, weight, bias, out, len(x), columns, x.stride(0),
        LENGTH=inputs, PARTS=parts, RELU=relu, ALIGNED=gcd(x.stride(0), ALIGNED),
        BLOCK_M=tile.rows, BLOCK_N=tile.columns, BLOCK_K=tile.summed,
        num_warps=tile.warps, num_stages=tile.stages, **_early(x.device),
    )  # fmt: skip


def launch_matmul(a: Tensor, b: Tensor, out: Tensor, *, precision: str) -> None:
    """Write `a` [batch, rows, length] times `b` [batch, length, columns] to `out`, which is contiguous.

    The elements of a sum, a multiple of 32, lie together in `a`; in `b` they do, or the columns.
    """
    from toolkit.engines.gpu.compiled.kernels.matmul import matmul_kernel

    batch, rows, length = a.shape
    columns = b.shape[2]
    tile = matmul_tile(batch, rows, columns, length)
    matmul_kernel[(tile.programs(rows, columns), batch)](
        a, b, out, rows, columns, length, a.stride(0), a.stride(1), *b.stride(),
        PRECISION=precision, BLOCK_M=tile.rows, BLOCK_N=tile.columns, BLOCK_K=tile.summed,
        num_warps=tile.warps, num_stages=tile.stages, **_early(a.device),
    )  # fmt: skip


def launch_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    valid: Tensor | None,
    out: Tensor,
    arrived: Tensor,
    *,
    scale: float,
    precision: str,
) -> None:
    """Write attention of `query` [batch, heads, queries, width] to `out` [batch, queries, heads, width].

    `key` and `value` are [batch, heads, keys, width], `valid` bool, expanded to [batch, heads, queries, keys]. Features
    lie together in each. `arrived` is as in `launch_product`.
    """
    from toolkit.engines.gpu.compiled.kernels.attention import attention_kernel

    batch, heads, queries, width = query.shape
    keys = key.shape[2]
    tile = attention_tile(batch * heads, queries, keys, precision)
    blocks = tile.programs(queries, 1)
    mask = (query, 0, 0, 0, 0) if valid is None else (valid.view(torch.uint8), *valid.stride())
    trimmed = 1 << (keys - 1).bit_length() if valid is not None and mask[3] == 0 and keys <= MOST_TRIMMED else 0
    shared = tile.splits * batch * heads * blocks * tile.rows * (width + 2)
    partial = query.new_empty(shared) if tile.splits > 1 else out
    attention_kernel[(blocks, batch * heads, tile.splits)](
        query, key, value, mask[0], out, partial, arrived, scale, heads, queries, keys, tile.splits,
        *query.stride()[:3], *key.stride()[:3], *value.stride()[:3], *mask[1:],
        MASKED=valid is not None, MASKED_ROWS=mask[3] != 0, MASKED_LOGIT=MASKED_LOGIT, PRECISION=precision,
        SPLIT=tile.splits > 1, KEYS=trimmed, WIDTH=width, BLOCK_Q=tile.rows, BLOCK_K=tile.summed,
        num_warps=tile.warps, num_stages=tile.stages, **_early(query.device),
    )  # fmt: skip


def launch_sampling(
    image: Tensor,
    offset: Tensor,
    mask: Tensor,
    out: Tensor,
    kernel: tuple[int, int],
    stride: int,
    padding: int,
    dilation: int,
) -> None:
    """Write samples of `image` [batch, height, width, channels] to `out` [batch, taps * channels, height', width'].

    Image and `out` are dense in memory with channels last. `offset` [batch, 2 * taps, height', width'] and `mask`
    [batch, taps, height', width'] are of any layout, channels a multiple of 32.
    """
    from toolkit.engines.gpu.compiled.kernels.sampling import sampling_kernel

    _, height, width, channels = image.shape
    batch, _, out_height, out_width = mask.shape
    positions = batch * out_height * out_width
    tile = sampling_tile(channels)
    sampling_kernel[(tile.programs(positions, 1),)](
        image, offset, mask, out, positions, height, width, out_height, out_width, *offset.stride(), *mask.stride(),
        CHANNELS=channels, STRIDE=stride, PADDING=padding, DILATION=dilation, KERNEL_H=kernel[0], KERNEL_W=kernel[1],
        TAPS=kernel[0] * kernel[1], BLOCK_M=tile.rows, BLOCK_K=tile.summed, num_warps=tile.warps,
    )  # fmt: skip


def _early(device: torch.device) -> dict[str, bool]:
    """Programmatic dependent launch, where the GPU has it: a kernel starts while the one before it ends."""
    able = torch.cuda.get_device_capability(device)[0] >= 9
    return {"EARLY": able, "launch_pdl": able}
