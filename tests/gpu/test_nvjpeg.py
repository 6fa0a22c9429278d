"""nvJPEG's pictures, decoded by several threads."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import pytest
import torch

from tests.toolkit.toy_bundle import toy_frame, write_toy_bundle
from toolkit.data.frame_folder import read_frame_folder, write_frame
from toolkit.data.sequence import frame_steps
from toolkit.engines.gpu.compiled.network import compile_network
from toolkit.engines.gpu.nvjpeg import NvjpegDecoder, OnDevice
from toolkit.engines.gpu.session import DEVICE, CudaGraphSession
from toolkit.engines.torch import load_network
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.runtime.sequence import run_steps

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


def test_no_picture_is_decoded_while_the_network_is_captured(tmp_path: Path) -> None:
    """CUDA lets no other thread do all that nvJPEG does meanwhile, and torch has few streams to give to both."""
    pytest.importorskip("torchvision")
    (folder := tmp_path / "frames").mkdir()
    for number in range(5):
        write_frame(toy_frame(number, "scene"), folder)
    bundle = write_toy_bundle(tmp_path / "bundle")
    network = load_network(bundle, PluginManager.load()).to("cuda")
    compiled = compile_network(network, Precision.FP32, inductor=False)
    begun, met = Event(), list[bool]()
    capturing = False

    class Late(NvjpegDecoder):
        """Decodes the first frame, and the others when a capture has begun, or was."""

        def decode(self, files: Sequence[bytes]) -> torch.Tensor:
            if met:
                begun.wait(10)
            met.append(capturing)
            return super().decode(files)

    def slow(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        nonlocal capturing
        capturing = torch.cuda.is_current_stream_capturing()
        if capturing:
            begun.set()
            time.sleep(0.5)
        outputs = compiled(inputs)
        capturing = False
        return outputs

    session = CudaGraphSession(slow, network.graph)
    steps = frame_steps(read_frame_folder(folder))
    assert len(list(run_steps(bundle, session, steps, decoders=2, decoder=Late(DEVICE)))) == 5
    assert met == [False] * 5
