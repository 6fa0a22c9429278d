"""Frames a second of one GPU by the network alone, for several scenes at once: a CUDA graph each, launched in turn.

    python -m benchmarks.gpu_scenes [BUNDLE] [--precision fp16] [--at-once 1 --at-once 4 …] [--frames 80]

As `run --scenes-at-once` has them, but for all that the host does to a frame: inputs lie in the GPU's memory, and no
output leaves it. Without a bundle, the network has made-up weights, and is compiled first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.command import run_benchmark
from benchmarks.gpu_network import bundle_of, pseudo_network
from toolkit.bundle import Bundle
from toolkit.config.model import ModelConfig
from toolkit.data.probe import probe_frame
from toolkit.engines.gpu.session import CudaGraphSession
from toolkit.engines.session import Session
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision

WARM_UP = 5
"""Frames of each scene that are not counted."""


def main(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder.")] = None,
    precision: Annotated[Precision, typer.Option(help="Of the cuda session.")] = Precision.FP16,
    at_once: Annotated[list[int] | None, typer.Option(min=1, help="Scenes; by default 1, 2, 4 and 8.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames of each scene to time, after five to warm up.")] = 80,
) -> None:
    """Time the network for several scenes at once on the GPU at hand."""
    if not torch.cuda.is_available():
        raise SystemExit("needs a CUDA GPU and a torch built for it")
    session, opened = _opened(bundle, precision)
    counts = at_once or [1, 2, 4, 8]
    sessions = session.beside(max(counts))
    inputs = [first_inputs(each, opened) for each in sessions]
    table = Table("scenes at once", "frames a second", "ms of a frame", title=f"network alone, {precision.value}")
    for count in counts:
        rate = frames_per_second(sessions[:count], inputs[:count], frames, torch.cuda.synchronize)
        table.add_row(str(count), f"{rate:.0f}", f"{1000 / rate:.3f}")
    Console().print(table, torch.cuda.get_device_name(), f"torch {torch.__version__}")


def _opened(path: Path | None, precision: Precision) -> tuple[CudaGraphSession, Bundle]:
    if path is not None:
        bundle = Bundle.read(path)
        return CudaGraphSession.of_bundle(bundle, PluginManager.load(), precision=precision), bundle
    network = pseudo_network(ModelConfig())
    return CudaGraphSession.of_network(network, precision=precision), bundle_of(network)


def first_inputs(session: Session, bundle: Bundle) -> dict[str, Tensor]:
    """Inputs of a scene's first frame, where the session has them."""
    frame = probe_frame(bundle.config, 0, continues=False)
    states = {spec.name: spec.zeros(bundle.config.dimensions()) for spec in bundle.state_inputs}
    return {name: session.upload(array) for name, array in (frame | states).items()}


def frames_per_second(
    sessions: Sequence[Session], inputs: Sequence[Mapping[str, Tensor]], frames: int, wait: Callable[[], None]
) -> float:
    """Of all sessions together, each of which runs so many frames; `wait` returns when all of them are done."""
    seconds = 0.0
    for repeats in (WARM_UP, frames):
        wait()
        started = time.perf_counter()
        for _ in range(repeats):
            for session, fed in zip(sessions, inputs, strict=True):
                session.run(fed)
        wait()
        seconds = time.perf_counter() - started
    return frames * len(sessions) / seconds


if __name__ == "__main__":
    run_benchmark(main)
