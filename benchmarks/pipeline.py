"""Frames a second that `run` achieves, in turn and with helpers, what each stage takes, and how soon the first comes.

python -m benchmarks.pipeline [BUNDLE FRAMES] [--session cuda --precision fp16] [--frames 80] [--helpers 8]
    [--stub-ms 5] [--folder FOLDER] [--scenes-at-once 4 …] [--gpus 2 …]

A bundle with made-up weights and a rendered drive are made if none are given, in --folder if they are to stay. The
first frame is that of the command itself, with what a session keeps made (cold) and found (warm); the loop is measured
in this process, as are several scenes at once; GPUs each have a process. Figures are printed as they come.

With --stub-ms the outputs of the session's first frames are replayed, each after so many milliseconds: what the loop
would achieve beside a fast network, on any machine.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.command import run_benchmark
from benchmarks.made_up import write_bundle, write_frames
from benchmarks.replayed_session import ReplayedSession, recorded
from benchmarks.run_command import timed_run
from toolkit.batch.at_once import scenes_at_once as run_at_once
from toolkit.batch.gpus import gpu_records, visible_gpus
from toolkit.batch.scenes import Scene, split_scenes
from toolkit.batch.writer import SceneWriter
from toolkit.bundle import Bundle
from toolkit.cli.run_job import RunJob, finishing, open_decoder
from toolkit.cli.sessions import DEFAULT_SESSION, open_session, session_kind
from toolkit.config.model import ModelConfig
from toolkit.data.decoder import Decoder
from toolkit.data.device_decoding import DeviceDecoder
from toolkit.data.frames import Frame
from toolkit.data.sources import open_frames
from toolkit.data.stage_clock import Stage
from toolkit.engines.gpu.kept import FOLDER_VARIABLE
from toolkit.engines.session import Session, SharedSession
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.runtime.run_record import FrameRecord
from toolkit.synthetic.dataset import DriveSettings

SCENE_FRAMES = 40
RECORDED = 8
WARM_UP = 8
"""Frames that are not counted: those for which helpers and session still start."""
IN_TURN = 32
"""Most frames of the way without helpers, which is slow."""
FRAMES_AT_ONCE, FRAMES_ON_GPUS = 160, 2560
"""For each of several scenes at once, and for all GPUs together."""
RENDERED_SCENES, RENDERED_KEYFRAMES = 8, 10
"""Rendered by a process each, for a drive that repeats them and is cut into scenes of another length."""


@dataclass(frozen=True)
class Loop:
    """One way through all frames: how many a second, after the first ones, and what each stage took, in seconds."""

    frames_per_second: float
    thread_seconds: float
    """Of the processor, for each frame, in the thread that runs the network: what no helper takes off it."""
    stages: dict[Stage, float]


def main(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder; made if not given.")] = None,
    address: Annotated[
        str | None, typer.Argument(help="Where frames come from, repeated as needed; rendered if not given.")
    ] = None,
    session: str = DEFAULT_SESSION,
    precision: Precision = Precision.FP32,
    stub_ms: Annotated[float | None, typer.Option(help="Milliseconds of a network that only replays.")] = None,
    frames: Annotated[int, typer.Option(min=WARM_UP + 1)] = 80,
    helpers: Annotated[int, typer.Option(min=1)] = 8,
    scenes_at_once: Annotated[list[int] | None, typer.Option(min=1, help="So many scenes at once; repeatable.")] = None,
    gpus: Annotated[list[int] | None, typer.Option(min=1, help="On so many GPUs; repeatable.")] = None,
    given_folder: Annotated[
        Path | None, typer.Option("--folder", help="New folder for what is made, which stays; by default it goes.")
    ] = None,
) -> None:
    """The command's first frame, then the loop without and with pictures, each in turn and with helpers."""
    cv2.setNumThreads(1)
    plugins, console = PluginManager.load(), Console()
    parts = Parts(console, [])
    with tempfile.TemporaryDirectory() as name:
        folder, started = given_folder or Path(name), time.perf_counter()
        if bundle is None:
            bundle = write_bundle(folder / "bundle", ModelConfig()).path
        if address is None:
            address = str(write_frames(folder, DriveSettings(RENDERED_SCENES, RENDERED_KEYFRAMES)))
        console.print(f"bundle and frames are there after {time.perf_counter() - started:.0f} s")
        kind = session_kind(plugins, session)
        if stub_ms is None and kind.kept is not None:
            os.environ[FOLDER_VARIABLE] = str(folder / "kept")  # for what follows in this process too
            options = ["--session", session, "--precision", precision.value, "--helpers", str(helpers), "--no-pictures"]
            for state in ("cold", "warm"):
                with parts.part(f"run, {state}"):
                    ran = timed_run(bundle, address, options)
                    parts.tell(f"first frame, {state}", f"{ran.first_frame:.1f} s")
                    parts.tell(f"run --no-pictures, {state}, from then on", f"{ran.frames_per_second:.1f} frames/s")
        opened = Bundle.read(bundle)
        found = list(open_frames(address, opened.config.image, plugins.frame_sources()))
        engine: Session = open_session(opened, session, plugins, precision=precision)
        title = f"{session}, {precision.value}"
        if stub_ms is not None:
            engine = ReplayedSession(opened, recorded(opened, engine, found, RECORDED), stub_ms / 1000)
            title = f"replayed, {stub_ms:g} ms"
        for pictures in (False, True):
            with parts.part(f"loop, pictures {pictures}"):
                loops = [
                    measured(opened, [engine], plugins, drive(found, count), pictures, used)
                    for used, count in ((0, min(frames, IN_TURN)), (helpers, frames))
                ]
                given = "with" if pictures else "without"
                console.print(loop_table(loops, helpers, f"{title}, {given} pictures, {frames} frames"))
                parts.tell(f"loop {given} pictures, in turn", f"{loops[0].frames_per_second:.1f} frames/s")
                parts.tell(f"loop {given} pictures, {helpers} helpers", f"{loops[1].frames_per_second:.1f} frames/s")
        if stub_ms is None and kind.gpus:
            with parts.part("nvJPEG"):
                decoder = open_decoder(Decoder.NVJPEG)
                rate = measured(
                    opened, [engine], plugins, drive(found, frames), False, helpers, decoder
                ).frames_per_second
                parts.tell("loop without pictures, nvjpeg", f"{rate:.1f} frames/s")
        for count in scenes_at_once or ():
            with parts.part(f"{count} scenes at once"):
                assert isinstance(engine, SharedSession)
                several, each = engine.beside(count), drive(found, FRAMES_AT_ONCE * count)
                for decoder in (None, open_decoder(Decoder.NVJPEG)) if kind.gpus else (None,):
                    loop = measured(opened, several, plugins, each, False, 2 * helpers, decoder)
                    given = "" if decoder is None else ", nvjpeg"
                    parts.tell(f"{count} scenes at once{given}", f"{loop.frames_per_second:.1f} frames/s")
        for count in gpus or ():
            with parts.part(f"{count} GPUs"):
                at_once = max(scenes_at_once or [1])
                job = partial(
                    RunJob, bundle, session, precision, "evaluation", pictures=False, plugin_files=(),
                    disabled_plugins=(), helpers=helpers, decoder=Decoder.NVJPEG, scenes_at_once=at_once,
                )  # fmt: skip
                rate = rate_on_gpus(job, drive(found, FRAMES_ON_GPUS), count)
                parts.tell(f"{count} GPUs, {at_once} scenes at once on each, nvjpeg", f"{rate:.1f} frames/s")
    parts.show(f"{title}, {len(os.sched_getaffinity(0))} cores")


@dataclass(frozen=True)
class Parts:
    """What was measured so far, in words. A part that fails is told, and the others go on."""

    console: Console
    told: list[tuple[str, str]]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure something, of which there may be nothing to tell."""
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            printed = getattr(error, "output", None) or ""
            self.console.print(f"{error}\n{printed[-2000:]}", markup=False)
            self.tell(name, "failed, see above")
        self.console.print(f"{name}: {time.perf_counter() - started:.0f} s in all", markup=False)

    def tell(self, what: str, figure: str) -> None:
        """A row of the table, printed at once too: the benchmark may be cut short."""
        self.told.append((what, figure))
        self.console.print(f"{what}: {figure}", markup=False)

    def show(self, title: str) -> None:
        """The table of all."""
        table = Table("", "", title=title, show_header=False)
        for what, figure in self.told:
            table.add_row(what, figure)
        self.console.print(table)


def drive(frames: Sequence[Frame], count: int) -> list[Scene]:
    """So many frames in scenes of 40, the given ones again and again under names of their own."""
    repeated = enumerate(islice(cycle(frames), count))
    renamed = (replace(frame, name=f"{n:05d}", scene=f"scene {n // SCENE_FRAMES}") for n, frame in repeated)
    return list(split_scenes(renamed))


def measured(
    bundle: Bundle,
    sessions: Sequence[Session],
    plugins: PluginManager,
    scenes: Sequence[Scene],
    pictures: bool,
    helpers: int,
    decoder: DeviceDecoder | None = None,
) -> Loop:
    """Run scenes into a temporary folder, as many at once as there are sessions."""
    records: list[FrameRecord] = []
    moments: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = RunJob(bundle.path, "", Precision.FP32, "evaluation", pictures, folder, (), ())  # sessions are open
        with finishing(job, plugins, helpers) as finish:
            writers = [
                SceneWriter(bundle, session, plugins.submodules(), "evaluation", pictures, folder, decoder=decoder)
                for session in sessions
            ]
            busy = time.thread_time()
            if len(writers) > 1:
                run = run_at_once(writers, scenes, finish, decoders=helpers)
            else:
                run = writers[0].run(scenes, finish, decoders=helpers)
            for record in run:
                records.append(record)
                moments.append(time.perf_counter())
            busy = time.thread_time() - busy
    counted = records[WARM_UP:]
    stages = {stage: float(np.mean([record.seconds[stage] for record in counted])) for stage in counted[0].seconds}
    return Loop(len(counted) / (moments[-1] - moments[WARM_UP - 1]), busy / len(records), stages)


def rate_on_gpus(job: Callable[..., RunJob], scenes: Sequence[Scene], count: int) -> float:
    """Frames a second of all together, from the first scene that any of them has done to the end.

    The processes do not start at the same time, so that the frames should take many seconds.
    """
    with tempfile.TemporaryDirectory() as name:
        gpus = visible_gpus(count, torch.cuda.device_count())
        with gpu_records(job(folder=Path(name)), scenes, gpus) as records:
            moments = [time.perf_counter() for _ in records]
    return (len(moments) - SCENE_FRAMES * count) / (moments[-1] - moments[SCENE_FRAMES * count - 1])


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
    run_benchmark(main)
