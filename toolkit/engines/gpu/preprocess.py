"""Camera images on the device as `toolkit.data.preprocess.camera_image` makes them on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.config.model import ChannelOrder, ImageConfig
from toolkit.engines.gpu.transfer import ALL_ROWS, RowBlocks
from toolkit.ops.kernel import Kernel, Launch, Shapes, ceil_div, run_kernel


class CameraImages(nn.Module):
    """Normalises at full size, then resizes, then pads with zeros; reads only the pixels that the resize needs.

    The order of operations is that of OpenCV's `INTER_LINEAR` with Intel's primitives, which its wheels for x86-64
    have: along rows, then along columns, each time first + (second - first) * weight with one rounding of product and
    sum. Where all weights are 0 or 1/2, as at scales 1/4 and 1/2, results are the same to the last bit. At others a
    device without fused multiply-add, or another OpenCV, may differ by a rounding.

    On a GPU it is one kernel, elsewhere PyTorch's operators.
    """

    mean: Tensor
    factor: Tensor
    rows: Tensor
    row_weight: Tensor
    left: Tensor
    right: Tensor
    column_weight: Tensor

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self._source = config.source_height, config.source_width
        self._resized, self._padded = config.resized, config.padded
        self._bgr = config.channel_order is ChannelOrder.BGR
        above, below, row_weight = resize_table(config.source_height, config.resized[0])
        left, right, column_weight = resize_table(config.source_width, config.resized[1])
        tables = {
            "mean": np.array(config.mean, np.float32),
            "factor": (1 / np.array(config.std)).astype(np.float32),
            "rows": np.concatenate((above, below))[:, None],
            "row_weight": row_weight[:, None, None],
            "left": left,
            "right": right,
            "column_weight": column_weight[:, None],
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(table), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """RGB [cameras, source height, source width, 3] of uint8 to [cameras, 3, padded height, padded width]."""
        if pictures.is_cuda:
            return self._launched(pictures.contiguous())
        if self._bgr:
            pictures = pictures.flip(-1)
        left, right = (
            (pictures[:, self.rows, columns] - self.mean) * self.factor for columns in (self.left, self.right)
        )
        above, below = torch.addcmul(left, right - left, self.column_weight).chunk(2, dim=1)
        resized = torch.addcmul(above, below - above, self.row_weight)
        height, width = self._resized
        images = resized.new_zeros(len(pictures), 3, *self._padded)
        images[:, :, :height, :width] = resized.movedim(-1, 1)
        return images

    def _launched(self, pictures: Tensor) -> Tensor:
        """The same by the kernel."""
        images = self.mean.new_empty(len(pictures), 3, *self._padded)
        tables = (self.rows, self.row_weight, self.left, self.right, self.column_weight, self.mean, self.factor)
        launch = KERNEL.plan([self._source, self._resized, images.shape], [], "float32", {"bgr": self._bgr})
        pointers = [tensor.data_ptr() for tensor in (pictures, *tables, images)]
        device = images.device.index
        run_kernel(KERNEL, launch, pointers, device, torch.cuda.current_stream(device).cuda_stream)
        return images


THREADS = 256


def plan(shapes: Shapes, strides: Shapes, dtype: str, attributes: Mapping[str, Any]) -> Launch:
    """One thread a pixel; `shapes` are the size of a picture, the size it is resized to, and the images.

    The attribute `bgr` says whether the images' channels are those of the pictures in reverse.
    """
    (source_height, source_width), (height, width), (cameras, _, padded_height, padded_width) = shapes
    macros = {
        "SOURCE_HEIGHT": source_height,
        "SOURCE_WIDTH": source_width,
        "HEIGHT": height,
        "WIDTH": width,
        "PADDED_HEIGHT": padded_height,
        "PADDED_WIDTH": padded_width,
        "BGR": int(attributes["bgr"]),
        "THREADS": THREADS,
    }
    return Launch(macros, (cameras,), (ceil_div(padded_height * padded_width, THREADS), cameras, 1), THREADS)


KERNEL = Kernel(Path(__file__).with_name("camera_images.cu"), "camera_images", plan)


def rows_read(config: ImageConfig) -> RowBlocks:
    """Rows of a picture that the resize reads: the same ones of every block that becomes one row, otherwise all.

    At full size a block is one row: the second one that `resize_table` names is the next block's, with weight 0.
    """
    source, resized = config.source_height, config.resized[0]
    if source % resized:
        return ALL_ROWS
    above, below, _ = resize_table(source, resized)
    every = source // resized
    return RowBlocks(int(above[0]), min(int(below[0] - above[0]) + 1, every), every)


def resize_table(source: int, resized: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each resized pixel along an axis: the two source pixels that it lies between, and the second one's weight.

    int64, int64 and float32, [resized] each. Centres of pixels correspond; beyond the outermost there is no blending.
    """
    positions = ((np.arange(resized) + 0.5) * (source / resized) - 0.5).clip(0, source - 1)
    first = np.floor(positions).astype(np.int64)
    return first, np.minimum(first + 1, source - 1), (positions - first).astype(np.float32)
