"""Time of one frame on a GPU: the network launched kernel by kernel, and as one CUDA graph.

    python -m benchmarks.gpu_frame [--frames 100] [--tf32]

"Model" is from inputs on the device to outputs on the device, with state fed back and a new scene every ten frames. The
sessions take turns frame by frame. The reference in eager PyTorch takes 172.7 ms a frame on one H100 (FP32, no TF32).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from toolkit.config import ModelConfig
from toolkit.data.probe import probe_frame
from toolkit.demo.pseudo_weights import pseudo_motion_anchors, pseudo_trained_weights
from toolkit.engines.gpu.session import CudaGraphSession
from toolkit.engines.torch import TorchSession
from toolkit.network import Network, join
from toolkit.plugin_manager import PluginManager

REFERENCE_MS = 172.7
SCENE_FRAMES = 10
WARM_UP_FRAMES = 5


class Sequence:
    """Frames through one session, with the state in its memory and each frame timed."""

    def __init__(self, session: TorchSession, network: Network) -> None:
        self.session = session
        self.milliseconds: list[float] = []
        self._states = network.graph.states
        dimensions = network.graph.config.dimensions()
        self._state = {spec.name: session.upload(spec.zeros(dimensions)) for spec in network.graph.state_inputs}

    def step(self, frame: Mapping[str, np.ndarray]) -> None:
        inputs = {name: self.session.upload(array) for name, array in frame.items()}
        torch.cuda.synchronize()
        started = time.perf_counter()
        outputs = self.session.run(inputs | self._state)
        torch.cuda.synchronize()
        self.milliseconds.append(1e3 * (time.perf_counter() - started))
        available = inputs | outputs
        self._state = {state.input: available[state.source].clone() for state in self._states}


def main(
    frames: Annotated[int, typer.Option(help="Frames to time, after five to warm up.")] = 100,
    tf32: Annotated[bool, typer.Option("--tf32", help="Let matrix products and convolutions use TF32.")] = False,
) -> None:
    """Time the torch session and the CUDA graph session on the GPU at hand."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    config = ModelConfig()
    network = Network(join(PluginManager.load().submodules(), config))
    anchors = {"motion_head.motion_anchors": torch.from_numpy(pseudo_motion_anchors(config))}
    network.load_weights(pseudo_trained_weights(network) | anchors)
    sequences = [Sequence(session, network) for session in (TorchSession(network, "cuda"), CudaGraphSession(network))]
    drive = [probe_frame(config, number, True) for number in range(SCENE_FRAMES)]
    for number in range(frames + WARM_UP_FRAMES):
        continues = np.array([int(number % SCENE_FRAMES != 0)], np.int32)
        frame = drive[number % SCENE_FRAMES] | {"use_previous": continues}
        for sequence in sequences:
            sequence.step(frame)
    table = Table("session", "p50 ms", "p90 ms", "p99 ms", "p99 / p50", "reference / p50")
    for sequence in sequences:
        times = sequence.milliseconds[WARM_UP_FRAMES:]
        cuts = statistics.quantiles(times, n=100)
        p50, p90, p99 = cuts[49], cuts[89], cuts[98]
        row = [f"{p50:.2f}", f"{p90:.2f}", f"{p99:.2f}", f"{p99 / p50:.2f}", f"{REFERENCE_MS / p50:.1f}x"]
        table.add_row(sequence.session.name, *row)
    Console().print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {'TF32' if tf32 else 'FP32'}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
