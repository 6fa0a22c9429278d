"""Frames a second that the loop of `run` achieves, in turn and with helpers, and what each stage of a frame takes.

python -m benchmarks.pipeline BUNDLE FRAMES [--session cuda --precision fp16] [--stub-ms 5] [--helpers 8] [--frames 80]

With --stub-ms the outputs of the session's first frames are replayed, each after so many milliseconds: what the loop
would achieve beside a fast network, on any machine.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.replayed_session import ReplayedSession, recorded
from toolkit.batch.finishing import Finisher, finishing, layers_of
from toolkit.batch.scenes import Scene, split_scenes
from toolkit.batch.writer import SceneWriter
from toolkit.bundle import Bundle
from toolkit.cli.sessions import DEFAULT_SESSION, open_session
from toolkit.data.frames import Frame
from toolkit.data.sources import open_frames
from toolkit.data.stage_clock import Stage
from toolkit.engines.session import Session
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.runtime.run_record import FrameRecord
from toolkit.specs import Submodule

SCENE_FRAMES = 40
RECORDED = 8
WARM_UP = 8
"""Frames that are not counted: those for which helpers and session still start."""


@dataclass(frozen=True)
class Loop:
    """One way through all frames: how many a second, after the first ones, and what each stage took, in seconds."""

    frames_per_second: float
    thread_seconds: float
    """Of the processor, for each frame, in the thread that runs the network: what no helper takes off it."""
    stages: dict[Stage, float]


def main(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    address: Annotated[str, typer.Argument(help="Where frames come from; they are repeated as needed.")],
    session: str = DEFAULT_SESSION,
    precision: Precision = Precision.FP32,
    stub_ms: Annotated[float | None, typer.Option(help="Milliseconds of a network that only replays.")] = None,
    frames: Annotated[int, typer.Option(min=WARM_UP + 1)] = 80,
    helpers: Annotated[int, typer.Option(min=1)] = 8,
) -> None:
    """Run a drive without and with pictures, each in turn and with helpers."""
    cv2.setNumThreads(1)
    plugins = PluginManager.load()
    opened = Bundle.read(bundle)
    found = list(open_frames(address, opened.config.image, plugins.frame_sources()))
    engine: Session = open_session(opened, session, plugins, precision=precision)
    name = f"{session}, {precision.value}"
    if stub_ms is not None:
        engine = ReplayedSession(opened, recorded(opened, engine, found, RECORDED), stub_ms / 1000)
        name = f"replayed, {stub_ms:g} ms"
    scenes = drive(found, frames)
    console = Console()
    for pictures in (False, True):
        loops = [measured(opened, engine, plugins.submodules(), scenes, pictures, count) for count in (0, helpers)]
        console.print(
            loop_table(loops, helpers, f"{name}, {'with' if pictures else 'without'} pictures, {frames} frames")
        )
    console.print(f"{len(os.sched_getaffinity(0))} cores")


def drive(frames: Sequence[Frame], count: int) -> list[Scene]:
    """So many frames in scenes of 40, the given ones again and again under names of their own."""
    repeated = enumerate(islice(cycle(frames), count))
    renamed = (replace(frame, name=f"{n:05d}", scene=f"scene {n // SCENE_FRAMES}") for n, frame in repeated)
    return list(split_scenes(renamed))


def measured(
    bundle: Bundle,
    session: Session,
    submodules: Sequence[Submodule],
    scenes: Sequence[Scene],
    pictures: bool,
    helpers: int,
) -> Loop:
    """Run scenes into a temporary folder."""
    records: list[FrameRecord] = []
    moments: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with finishing(Finisher(folder, pictures), layers_of(submodules), helpers) as finish:
            writer = SceneWriter(bundle, session, submodules, "evaluation", pictures, folder)
            busy = time.thread_time()
            for record in writer.run(scenes, finish, decoders=helpers):
                records.append(record)
                moments.append(time.perf_counter())
            busy = time.thread_time() - busy
    counted = records[WARM_UP:]
    stages = {stage: float(np.mean([record.seconds[stage] for record in counted])) for stage in counted[0].seconds}
    return Loop(len(counted) / (moments[-1] - moments[WARM_UP - 1]), busy / len(records), stages)


def loop_table(loops: Sequence[Loop], helpers: int, title: str) -> Table:
    """Milliseconds by stage, and frames a second, in turn and with helpers."""
    in_turn, beside = loops
    table = Table("stage", "in turn, ms", f"{helpers} helpers, ms", title=title)
    for stage in in_turn.stages:
        table.add_row(stage, *(f"{1000 * loop.stages[stage]:.1f}" for loop in loops))
    table.add_row("of it the loop, CPU", *(f"{1000 * loop.thread_seconds:.1f}" for loop in loops))
    table.add_row("frames a second", *(f"{loop.frames_per_second:.1f}" for loop in loops))
    table.add_row("ratio", "", f"{beside.frames_per_second / in_turn.frames_per_second:.2f}x")
    return table


if __name__ == "__main__":
    typer.run(main)
