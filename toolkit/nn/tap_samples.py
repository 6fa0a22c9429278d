"""Where the taps of a deformable convolution lie, and what the image is there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def tap_samples(
    image: Tensor, offset: Tensor, mask: Tensor, kernel: tuple[int, int], stride: int, padding: int, dilation: int
) -> Tensor:
    """Samples of `image` (bilinear, zeros outside) at offsets from the taps, each times its mask.

    With N images, C channels, D sets of offsets and T = kh*kw taps: image [N, C, H, W]; offset [N, D*T*2, Ho, Wo] as
    (y, x) in pixels; mask [N, D*T, Ho, Wo] -> [N, D, C/D, T, Ho*Wo].
    """
    batch, channels, height, width = image.shape
    (kernel_height, kernel_width), (out_height, out_width) = kernel, mask.shape[2:]
    taps = kernel_height * kernel_width
    sets = mask.shape[1] // taps

    def taps_of(size: int, kernel: int) -> Tensor:
        """Pixel coordinates [size, kernel] of the taps along one axis, without offsets."""
        start, step = torch.arange(size, device=image.device), torch.arange(kernel, device=image.device)
        return (start[:, None] * stride - padding + step * dilation).to(image.dtype)

    moved = offset.reshape(batch * sets, kernel_height, kernel_width, 2, out_height, out_width)
    y = moved[:, :, :, 0] + taps_of(out_height, kernel_height).T[:, None, :, None]
    x = moved[:, :, :, 1] + taps_of(out_width, kernel_width).T[None, :, None, :]
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), -1)
    planes = image.reshape(batch * sets, channels // sets, height, width)
    sampled = grid_sample(planes, grid.flatten(1, 3), mode="bilinear", padding_mode="zeros", align_corners=False)
    area = out_height * out_width
    return sampled.view(batch, sets, channels // sets, taps, area) * mask.reshape(batch, sets, 1, taps, area)
