"""Time of one frame on the CPU: torch and ONNX Runtime over the same frames, and their ratio to the reference.

    python -m benchmarks.frame_time BUNDLE [--frames 8] [--threads 2]

The reference, UniAD-tiny in its deployment form in PyTorch, takes 3.6 s a frame on two CPU cores. Sessions take turns
frame by frame, so that a change of the machine's speed meets all of them.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.command import run_benchmark
from toolkit.bundle import Bundle
from toolkit.data.probe import probe_frames
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.engines.session import Session
from toolkit.engines.torch import TorchSession
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.temporal_runner import TemporalRunner

REFERENCE_SECONDS = 3.6


def main(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    frames: Annotated[int, typer.Option(help="Frames to time, after one to warm up.")] = 8,
    threads: Annotated[int, typer.Option(help="CPU threads of either session.")] = len(os.sched_getaffinity(0)),
) -> None:
    """Time torch and ONNX Runtime on the CPU."""
    torch.set_num_threads(threads)
    opened = Bundle.read(bundle)
    sessions: tuple[Session, ...] = (
        TorchSession.of_bundle(opened, PluginManager.load()),
        OnnxRuntimeSession(opened, threads=threads),
    )
    runners = [TemporalRunner(opened, session) for session in sessions]
    seconds: dict[str, list[float]] = {session.name: [] for session in sessions}
    for frame in probe_frames(opened.config, frames + 1, scene_change=frames + 1):
        for session, runner in zip(sessions, runners, strict=True):
            started = time.perf_counter()
            runner.step(frame)
            seconds[session.name].append(time.perf_counter() - started)
    table = Table("session", "median s", "min s", "max s", "reference / median", title=f"{threads} threads")
    for name, times in seconds.items():
        median = statistics.median(times[1:])
        row = (median, min(times[1:]), max(times[1:]))
        table.add_row(name, *(f"{value:.2f}" for value in row), f"{REFERENCE_SECONDS / median:.2f}x")
    Console().print(table)


if __name__ == "__main__":
    run_benchmark(main)
