"""Time of a frame on a GPU outside of the network: upload, preprocessing and download, against the goal.

    python -m benchmarks.gpu_transfers [--frames 200]

Pictures, inputs and results have the full network's sizes. The network is one that computes nothing, so that "model" is
what the graph does besides: copying inputs into its buffers, packing results, and looking for values that are not
finite. Pictures lie in the session's memory before the clock starts: decoding is not part of it. Each part is what
`uniad-toolkit benchmark` calls so, by the host's clock, the GPU waited for before and after, so that nothing overlaps.

"MB" is what the session copies: of pictures the rows that the resize reads, of results those that every frame reports.
"One by one" is for comparison: every tensor is copied whole and for itself, from and to ordinary, pageable memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.command import run_benchmark
from toolkit.benchmarking.timed import Part, TimedPictureSession, UnreportedPictures
from toolkit.bundle import Bundle
from toolkit.config.model import ModelConfig
from toolkit.data.pictures import IMAGE, PICTURES, PictureMemory, pictures_spec
from toolkit.data.probe import probe_frame
from toolkit.data.stage_clock import StageClock
from toolkit.engines.gpu.compiled.network import NetworkFunction
from toolkit.engines.gpu.preprocess import rows_read
from toolkit.engines.gpu.session import CudaGraphSession
from toolkit.engines.session import PictureSession
from toolkit.engines.torch import all_finite
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.specs import reported_results
from toolkit.wiring import NetworkGraph, join

GOAL_MS = 1.5
WARM_UP_FRAMES = 10
COUNTED = (Part.UPLOAD, Part.PREPARE, Part.DOWNLOAD, Part.CHECK)
"""Towards the goal."""
Milliseconds = Mapping[Part, NDArray[np.float64]]
"""Of each frame."""


class OneByOneSession:
    """A session that copies every tensor for itself, and waits for each."""

    name = "one by one"

    def __init__(self, session: CudaGraphSession, picture_shape: tuple[int, ...]) -> None:
        self.run, self.prepare, self.zeros, self.upload = session.run, session.prepare, session.zeros, session.upload
        self._picture_shape = picture_shape

    def new_pictures(self) -> PictureMemory:
        return UnreportedPictures(np.empty(self._picture_shape, np.uint8))

    def upload_frame(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        return {name: self.upload(array) for name, array in arrays.items()}

    def download(self, tensor: Tensor) -> np.ndarray:
        array: np.ndarray = tensor.cpu().numpy()
        return array

    def finite(self, tensors: Iterable[Tensor]) -> bool:
        return bool(all_finite(tensors))


def idle_network(graph: NetworkGraph) -> NetworkFunction:
    """Gives zeros for all outputs, which are there already."""
    dimensions = graph.config.dimensions()
    outputs = {spec.name: torch.from_numpy(spec.zeros(dimensions)).cuda() for spec in graph.outputs}
    return lambda inputs: dict(outputs)


def measure(session: PictureSession, bundle: Bundle, frames: int) -> Milliseconds:
    """What each part takes in each of the frames after those to warm up."""
    clock = StageClock[str]()
    watched = TimedPictureSession(session, clock)
    runner = TemporalRunner(bundle, watched)
    inputs = {name: array for name, array in probe_frame(bundle.config, 1, True).items() if name != IMAGE}
    laps = []
    for number in range(WARM_UP_FRAMES + frames):
        memory = watched.new_pictures()
        for camera, pixels in enumerate(memory.array):
            pixels[:] = number % 256
            memory.filled(camera)
        clock.take()
        runner.step(inputs | {PICTURES: memory.array})
        laps.append(clock.take())
    counted = laps[WARM_UP_FRAMES:]
    return {part: 1e3 * np.array([lap[part] for lap in counted]) for part in (*COUNTED, Part.MODEL)}


def main(frames: Annotated[int, typer.Option(min=2, help="Frames to time, after ten to warm up.")] = 200) -> None:
    """Print a table."""
    if not torch.cuda.is_available():
        raise SystemExit("needs a CUDA GPU and a torch built for it")
    config = ModelConfig()
    graph = join(PluginManager.load().submodules(), config)
    bundle = Bundle.of_graph(Path(), graph, submodules=(), custom_ops=(), files={}, sha256={}, provenance={}, parity={})
    dimensions, pictures = config.dimensions(), pictures_spec(config.image)
    session = CudaGraphSession(idle_network(graph), graph)
    ours = measure(session, bundle, frames)
    other = measure(OneByOneSession(session, pictures.resolve(dimensions)), bundle, frames)
    rows, reported = rows_read(config.image), reported_results(graph.results, graph.states)
    megabytes = {
        Part.UPLOAD: pictures.zeros(dimensions).nbytes * rows.count / rows.every / 1e6,
        Part.DOWNLOAD: sum(s.zeros(dimensions).nbytes for s in reported) / 1e6,
    }
    table = Table("milliseconds", "MB", "p50", "p99", "one by one p50", "p99")
    for part in (Part.UPLOAD, Part.PREPARE, Part.MODEL, Part.DOWNLOAD, Part.CHECK):
        size = f"{megabytes[part]:.1f}" if part in megabytes else ""
        table.add_row(part, size, *percentiles(ours[part]), *percentiles(other[part]))
    sums = [np.sum([found[part] for part in COUNTED], axis=0) for found in (ours, other)]
    table.add_row("all but model", "", *percentiles(sums[0]), *percentiles(sums[1]))
    console = Console(width=120)
    console.print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {frames} frames")
    console.print(table)
    total = float(np.median(sums[0]))
    console.print(f"goal {GOAL_MS} ms: {'[green]reached[/]' if total <= GOAL_MS else '[red]not reached[/]'}")


def percentiles(milliseconds: NDArray[np.float64]) -> tuple[str, str]:
    """p50 and p99."""
    p50, p99 = np.percentile(milliseconds, (50, 99))
    return f"{p50:.3f}", f"{p99:.3f}"


if __name__ == "__main__":
    run_benchmark(main)
