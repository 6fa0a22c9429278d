"""The kernel that samples an image where the taps of a deformable convolution lie: the left side of its product."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sampling_kernel(
    image,
    offset,
    mask,
    out,
    positions,
    height,
    width,
    out_height,
    out_width,
    offset_batch,
    offset_tap,
    offset_row,
    offset_column,
    mask_batch,
    mask_tap,
    mask_row,
    mask_column,
    CHANNELS: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    DILATION: tl.constexpr,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    TAPS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """out[p, t, c] = mask[p, t] image[at(p, t), c], bilinear, zeros outside, for every position p and tap t.

    The image is channels-last [batch, height, width, channels]; `positions` counts those of all images. Offset and mask
    have a stride for each axis. A program samples TAPS taps, a divisor of all, at BLOCK_M neighbouring positions;
    channels are a multiple of BLOCK_K.
    """
    taps: tl.constexpr = KERNEL_H * KERNEL_W
    shares: tl.constexpr = taps // TAPS
    m = tl.program_id(0) // shares * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.arange(0, BLOCK_K)
    inside = m < positions
    position = tl.minimum(m, positions - 1)
    column, rest = position % out_width, position // out_width
    row, batch = rest % out_height, rest // out_height
    moved = offset + batch * offset_batch + row * offset_row + column * offset_column
    weights = mask + batch * mask_batch + row * mask_row + column * mask_column
    plane = batch * height
    for number in range(TAPS):
        tap = tl.program_id(0) % shares * TAPS + number
        y = (row * STRIDE - PADDING + tap // KERNEL_W * DILATION).to(tl.float32)
        x = (column * STRIDE - PADDING + tap % KERNEL_W * DILATION).to(tl.float32)
        y += tl.load(moved + 2 * tap * offset_tap).to(tl.float32)
        x += tl.load(moved + (2 * tap + 1) * offset_tap).to(tl.float32)
        share = tl.load(weights + tap * mask_tap).to(tl.float32)
        # NaN is nowhere, and no far position becomes an integer.
        near = (x > -1.0) & (x < width) & (y > -1.0) & (y < height)
        x, y, share = tl.where(near, x, 0.0), tl.where(near, y, 0.0), tl.where(near, share, 0.0)
        x_floor, y_floor = tl.floor(x), tl.floor(y)
        x0, y0 = x_floor.to(tl.int32), y_floor.to(tl.int32)
        right, below = x - x_floor, share * (y - y_floor)
        left, above = 1.0 - right, share - below
        # What lies outside is a pixel of the image with share 0.
        left, right = tl.where(x0 >= 0, left, 0.0), tl.where(x0 + 1 < width, right, 0.0)
        above, below = tl.where(y0 >= 0, above, 0.0), tl.where(y0 + 1 < height, below, 0.0)
        x1, y1 = tl.minimum(x0 + 1, width - 1), tl.minimum(y0 + 1, height - 1)
        x0, y0 = tl.maximum(x0, 0), tl.maximum(y0, 0)
        upper, lower = (plane + y0) * width, (plane + y1) * width
        top_left = image + ((upper + x0) * CHANNELS)[:, None] + k[None, :]
        top_right = image + ((upper + x1) * CHANNELS)[:, None] + k[None, :]
        bottom_left = image + ((lower + x0) * CHANNELS)[:, None] + k[None, :]
        bottom_right = image + ((lower + x1) * CHANNELS)[:, None] + k[None, :]
        samples = out + ((m.to(tl.int64) * taps + tap) * CHANNELS)[:, None] + k[None, :]
        for first in range(0, CHANNELS, BLOCK_K):
            sample = (above * left)[:, None] * tl.load(top_left + first).to(tl.float32)
            sample += (above * right)[:, None] * tl.load(top_right + first).to(tl.float32)
            sample += (below * left)[:, None] * tl.load(bottom_left + first).to(tl.float32)
            sample += (below * right)[:, None] * tl.load(bottom_right + first).to(tl.float32)
            tl.store(samples + first, sample, mask=inside[:, None])
