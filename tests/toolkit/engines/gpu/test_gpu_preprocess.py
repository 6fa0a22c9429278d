"""Pictures prepared as the GPU session does it, on torch's CPU: the same as OpenCV's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from toolkit.config.model import ChannelOrder, ImageConfig
from toolkit.data.preprocess import camera_image
from toolkit.engines.gpu.preprocess import KERNEL, CameraImages, resize_table, rows_read
from toolkit.engines.gpu.transfer import ALL_ROWS, RowBlocks
from toolkit.ops.nvrtc import compile_kernel

pytestmark = pytest.mark.thorough

BASE = ImageConfig(scale=1.0, channel_order=ChannelOrder.BGR, mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0))
"""Pictures as UniAD-base takes them."""
ROUNDING = 2.0**-21
"""Two units in the last place of values from 1 to 4, which random pixels seldom exceed once normalised."""


def prepared(config: ImageConfig, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By torch, and by OpenCV."""
    actual = CameraImages(config)(torch.from_numpy(pictures)).numpy()
    return actual, np.stack([camera_image(picture, config) for picture in pictures])


def noise(config: ImageConfig, cameras: int = 2) -> np.ndarray:
    size = (cameras, config.source_height, config.source_width, 3)
    return np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)


@pytest.mark.skipif(not cv2.ipp.useIPP(), reason="this OpenCV resizes with other roundings")
@pytest.mark.parametrize(
    "config",
    [
        ImageConfig(),
        ImageConfig(scale=0.5),
        ImageConfig(scale=1.0),
        ImageConfig(source_width=640, source_height=360, scale=0.25, mean=(103.5, 116.3, 123.7), std=(1.0, 57.0, 9.0)),
        ImageConfig(source_width=64, source_height=64, scale=0.5, pad_multiple=1),
        BASE,
    ],
)
def test_images_equal_those_of_the_cpu_to_the_last_bit(config: ImageConfig) -> None:
    actual, expected = prepared(config, noise(config))
    assert actual.dtype == np.float32
    assert actual.flags.c_contiguous
    np.testing.assert_array_equal(actual.view(np.int32), expected.view(np.int32))


@pytest.mark.parametrize("scale", [0.1, 0.2, 0.3, 0.37, 0.75, 1.5])
@pytest.mark.parametrize(("width", "height"), [(160, 90), (97, 61)])
def test_other_scales_differ_by_a_rounding(width: int, height: int, scale: float) -> None:
    config = ImageConfig(source_width=width, source_height=height, scale=scale)
    actual, expected = prepared(config, noise(config))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=ROUNDING if cv2.ipp.useIPP() else 5e-5)


def test_a_quarter_needs_two_pixels_of_four() -> None:
    """In the middle of each four, with equal weights."""
    first, second, weight = resize_table(1600, 400)
    np.testing.assert_array_equal(first, 4 * np.arange(400) + 1)
    np.testing.assert_array_equal(second, first + 1)
    np.testing.assert_array_equal(weight, 0.5)


@pytest.mark.parametrize(
    ("scale", "blocks"),
    [
        (0.25, RowBlocks(1, 2, 4)),
        (0.5, RowBlocks(0, 2, 2)),
        (0.1, RowBlocks(4, 2, 10)),
        (0.2, RowBlocks(2, 2, 5)),
        (1.0, ALL_ROWS),
        (0.3, ALL_ROWS),
        (1.5, ALL_ROWS),
    ],
)
def test_rows_that_are_read_are_all_that_is_needed(scale: float, blocks: RowBlocks) -> None:
    """A fifth and a tenth, too, read a second row, though by a fifth its weight is 0."""
    config = ImageConfig(source_width=64, source_height=120, scale=scale)
    assert rows_read(config) == blocks
    pictures = noise(config)
    needed = np.zeros_like(pictures)
    for row in range(blocks.first, blocks.first + blocks.count):
        needed[:, row :: blocks.every] = pictures[:, row :: blocks.every]
    images, of_all = (CameraImages(config)(torch.from_numpy(given)) for given in (needed, pictures))
    assert torch.equal(images, of_all)


def test_beyond_the_outermost_pixels_nothing_is_blended() -> None:
    first, second, weight = resize_table(4, 8)
    assert first.tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    assert second.tolist() == [1, 1, 1, 2, 2, 3, 3, 3]
    assert weight.tolist() == [0, 0.25, 0.75, 0.25, 0.75, 0.25, 0.75, 0]


@pytest.mark.parametrize("config", [ImageConfig(), BASE], ids=["tiny", "base"])
def test_the_kernel_compiles(config: ImageConfig) -> None:
    """Its results are compared on a GPU, in tests/gpu/test_gpu_session.py."""
    pytest.importorskip("cuda.bindings", reason="compiling kernels needs cuda-bindings and NVRTC")
    images = (6, 3, *config.padded)
    sizes = [(config.source_height, config.source_width), config.resized, images]
    launch = KERNEL.plan(sizes, [], "float32", {"bgr": config.channel_order is ChannelOrder.BGR})
    assert launch.integers == (6,)
    assert launch.grid[0] * launch.block >= config.padded[0] * config.padded[1]
    assert b".entry camera_images" in compile_kernel(KERNEL.source, "compute_80", launch.macros)
