"""nvJPEG's pictures, decoded by several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch

from toolkit.engines.gpu.nvjpeg import NvjpegDecoder, OnDevice
from toolkit.engines.gpu.session import DEVICE

HEIGHT, WIDTH = 900, 1600


def gray(level: int) -> bytes:
    """A picture of one colour, which the decoder gives exactly."""
    encoded, file = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), level, np.uint8))
    assert encoded
    return file.tobytes()


@pytest.mark.parametrize("threads", [1, 4])
def test_pictures_are_not_overwritten_by_those_that_are_decoded_next(threads: int) -> None:
    """Also where the GPU has no time yet to put a frame's pictures together."""
    pytest.importorskip("torchvision")
    decoder, levels = NvjpegDecoder(DEVICE), range(10, 250, 10)
    assert decoder.stream is not None
    decoder.decode([gray(0)])  # nvJPEG is there from now on
    with torch.cuda.stream(decoder.stream):
        torch.cuda._sleep(200_000_000)  # cycles
    with ThreadPoolExecutor(threads) as pool:
        decoded = list(pool.map(lambda level: decoder.decode([gray(level)] * 6), levels))
    for level, pictures in zip(levels, decoded, strict=True):
        pixels = OnDevice(pictures).tensor()
        assert pixels.shape == (6, HEIGHT, WIDTH, 3)
        assert pixels.unique().tolist() == [level]
