"""Seconds and memory of a training step: UniAD-tiny's stages in each precision, as a whole and part by part.

    python -m benchmarks.training [--config configs/uniad_tiny_stage1.toml …] [--stage 1] [--steps 20]
        [--precision tf32 …] [--processes 4] [--compile] [--graphs] [--no-parts] [--device cuda] [--json training.json]

Weights are random. Clips are those of a synthetic drive, made before anything is timed, and handed out again and again
from memory; how long one takes to make, pictures from disk included, is a row of its own. A step is that of
`uniad-toolkit train`, timed by its own log, from a clip on the host to updated weights. "Clip s" is what of it goes by
until the clip is on the device, in one piece: `train --workers` puts that together beforehand. With several processes
each has a GPU of its own, and every step takes a clip of each.

Parts are timed in further steps of one process, in which the GPU is waited for around each part: their sum is more than
a step takes. Submodules run "without gradient" for the history of a frame, and where they are frozen. "In modules" is
time within a submodule's modules, the rest of its row is matching, losses and targets; not known of compiled ones,
and of graphs. "First steps" are those before the timed ones, all together: with `--compile` they compile.

    python -m benchmarks.training --operators [--config …] [--stage …]

counts, on the CPU and without timing anything, what a step dispatches, part by part: `training_operators.py`.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.command import run_benchmark
from benchmarks.gpu_work import GpuWork, profiled
from benchmarks.training_operators import count_operators
from benchmarks.training_parts import Parts, time_parts
from toolkit.config.file import load_config
from toolkit.demo.pseudo_weights import ASSET, pseudo_motion_anchors
from toolkit.plugin.manager import PluginManager
from toolkit.synthetic.dataset import DriveSettings, synthesize
from toolkit.training.clip import Clip
from toolkit.training.clip_model import ClipModel
from toolkit.training.clips import Place
from toolkit.training.compilation import compile_parts
from toolkit.training.config import TrainingConfig, load_training_config
from toolkit.training.dataset import open_clips
from toolkit.training.graphs import CudaRecorder, GraphCalls
from toolkit.training.processes import TrainingPrecision, make_fabric
from toolkit.training.run import Run, train
from toolkit.training.settings import default_options
from toolkit.training.start import stage_submodules, start_network
from toolkit.training.update import GraphedUpdate, MakeUpdate, PlainUpdate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from toolkit.config.model import ModelConfig
    from toolkit.training.journal import StepRecord

CONFIGS = Path(__file__).parents[1] / "configs"
DEFAULT = (CONFIGS / "uniad_tiny_stage1.toml", CONFIGS / "uniad_tiny_stage2.toml")
GOALS = {1: 0.25, 2: 0.2}
"""Seconds of a step of either stage on an H100."""
DIFFERENT_CLIPS = 3
WARM_UP = 3
WIDTH = 150
"""Of what is printed, in characters."""
PICTURE_WIDTH = 1600
"""Of a synthetic drive at full scale, in pixels."""


@dataclass(frozen=True)
class Drive:
    """Clips in memory, and the seconds that each took to make."""

    clips: Sequence[Clip]
    seconds: Sequence[float]

    @classmethod
    def made(cls, model: ModelConfig, training: TrainingConfig) -> Drive:
        """Clips that end with the last key frames of a synthetic scene."""
        plugins = PluginManager.load()
        with tempfile.TemporaryDirectory() as folder:
            scale = model.image.source_width / PICTURE_WIDTH
            keyframes = training.queue_length + DIFFERENT_CLIPS - 1
            settings = DriveSettings(scenes=1, keyframes=keyframes, image_scale=scale)
            list(synthesize(Path(folder) / "drive", settings))
            made = open_clips(
                f"nuscenes:{folder}/drive",
                plugins.frame_sources(),
                stage_submodules(plugins.submodules(), training.stage),
                model,
                training.queue_length,
                training.seed,
                distorted=training.distort_pictures,
            )
            clips, seconds = [], []
            for index in range(len(made)):
                started = time.perf_counter()
                clips.append(made[Place(0, index)])
                seconds.append(time.perf_counter() - started)
        return cls(clips, seconds)


@dataclass(frozen=True)
class Repeated:
    """So many clips, which are the same few in turn."""

    clips: Sequence[Clip]
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: Place) -> Clip:
        return self.clips[place.index % len(self.clips)]


@dataclass(frozen=True)
class Measurement:
    """Steps of one stage in one precision; `first` are those to warm up, and `waited` is for the clips of the others.

    Bytes are 0 without a GPU.
    """

    config: str
    stage: int
    frames: int
    precision: TrainingPrecision
    compiled: bool
    graphs: bool
    processes: int
    first: tuple[float, ...]
    seconds: tuple[float, ...]
    waited: tuple[float, ...]
    clip_seconds: tuple[float, ...]
    peak_bytes: int
    work: GpuWork | None
    parts: Parts

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))


def main(
    config: Annotated[list[Path] | None, typer.Option(help="Of the training; UniAD-tiny's stages by default.")] = None,
    stage: Annotated[int | None, typer.Option(min=1, max=2, help="Where the config does not say it.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps to time, after three to warm up.")] = 20,
    precision: Annotated[list[TrainingPrecision] | None, typer.Option(help="All by default.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="That train together, each on a GPU.")] = 1,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile parts of the network, as train does.")] = False,
    graphs: Annotated[bool, typer.Option("--graphs", help="Parts are launched as a whole, as by train.")] = False,
    by_parts: Annotated[bool, typer.Option("--parts/--no-parts", help="Time the parts of a step as well.")] = True,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    output: Annotated[Path | None, typer.Option("--json", help="File to write all figures to.")] = None,
    operators: Annotated[bool, typer.Option("--operators", help="Count operators instead, on the CPU.")] = False,
) -> None:
    """Time training steps on the machine at hand."""
    if operators:
        for path in config or DEFAULT:
            Console(width=WIDTH).print(operators_table(path, stage))
        return
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        raise SystemExit(
            subprocess.run([*launcher, "-m", "benchmarks.training", *sys.argv[1:]], check=False).returncode
        )
    measurements = []
    for path in config or DEFAULT:
        model, training = load_config(path), replace(load_training_config(path, stage), epochs=1)
        drive = Drive.made(model, training)
        for chosen in precision or list(TrainingPrecision):
            torch.set_float32_matmul_precision("highest")
            fabric = make_fabric(chosen, device)
            measured = measure(
                path.stem,
                model,
                training,
                drive,
                fabric,
                chosen,
                steps,
                compiled=compiled,
                graphs=graphs,
                by_parts=by_parts,
            )
            if fabric.global_rank == 0:
                measurements.append(measured)
                Console(width=WIDTH).print(step_table([measured]))
                if output is not None:  # already, for the next one may take long, or fail
                    output.write_text(json.dumps([asdict(each) for each in measurements], indent=1) + "\n")
    if measurements:
        parts = [parts_table(each) for each in measurements if each.parts.seconds]
        Console(width=WIDTH).print(step_table(measurements), *parts)


def measure(
    name: str,
    model: ModelConfig,
    training: TrainingConfig,
    drive: Drive,
    fabric: Fabric,
    precision: TrainingPrecision,
    steps: int,
    *,
    compiled: bool,
    graphs: bool,
    by_parts: bool,
) -> Measurement:
    """Train for some steps from random weights, then look at one with the profiler and at some part by part."""
    on_gpu = fabric.device.type == "cuda"
    network = new_network(model, training).to(fabric.device)
    if compiled:
        torch.compiler.reset()
        compile_parts(network)
    make_update: MakeUpdate = PlainUpdate
    if graphs:
        recorder = CudaRecorder()
        network.calls = GraphCalls(recorder)
        make_update = partial(GraphedUpdate, capture=recorder.capture)
    records: list[StepRecord] = []
    if on_gpu:
        gc.collect()
        torch.cuda.empty_cache()  # what the precision before has left
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        count = (WARM_UP + steps) * fabric.world_size * training.accumulate
        run = Run(Path(folder), training, told=records.append, make_update=make_update)
        train(run, network, Repeated(drive.clips, count), fabric)
    peak = torch.cuda.max_memory_reserved() if on_gpu else 0
    parts, work = Parts({}, {}), None
    if fabric.world_size == 1 and by_parts:
        timed = time_parts(network, drive.clips, training, fabric, make_update, within=not (compiled or graphs))
        work = profiled(lambda: next(timed))[1] if on_gpu else None
        parts = Parts.median([next(timed) for _ in range(min(steps, 5))])
    return Measurement(
        config=name,
        stage=training.stage,
        frames=training.queue_length,
        precision=precision,
        compiled=compiled,
        graphs=graphs,
        processes=fabric.world_size,
        first=tuple(record.seconds for record in records[:WARM_UP]),
        seconds=tuple(record.seconds for record in records[WARM_UP:]),
        waited=tuple(record.waited for record in records[WARM_UP:]),
        clip_seconds=tuple(drive.seconds),
        peak_bytes=peak,
        work=work,
        parts=parts,
    )


def operators_table(path: Path, stage: int | None) -> Table:
    """A row for each part of a step of a config, whose pictures are rendered as small as the network sees them."""
    model, training = load_config(path), load_training_config(path, stage)
    image = model.image
    width, height = (round(side * image.scale) for side in (image.source_width, image.source_height))
    model = replace(model, image=replace(image, source_width=width, source_height=height, scale=1.0))
    parts = count_operators(new_network(model, training), Drive.made(model, training).clips[:2], training)
    table = Table("part", "forward", "backward", "waits", "uploads", title=f"{path.stem}, stage {training.stage}")
    rows: dict[str, tuple[int, ...]] = {
        name: (each.forward, each.backward, each.waits, each.uploads) for name, each in parts.items()
    }
    rows["all"] = tuple(map(sum, zip(*rows.values(), strict=True)))
    for name, numbers in rows.items():
        table.add_row(name, *(f"{number:,}" for number in numbers))
    return table


def new_network(model: ModelConfig, training: TrainingConfig) -> ClipModel:
    """A network of the stage with random weights."""
    plugins = PluginManager.load()
    submodules = stage_submodules(plugins.submodules(), training.stage)
    owned = {asset.key for each in submodules for asset in each.assets}
    assets: Mapping[str, np.ndarray] = {ASSET: pseudo_motion_anchors(model)} if ASSET in owned else {}
    start = start_network(None, plugins, model, training.stage, assets, training.seed)
    return ClipModel(start.network, training.stage, default_options(submodules))


def step_table(measurements: Sequence[Measurement]) -> Table:
    """A row for each stage and precision."""
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    columns = (
        "config",
        "frames",
        "in",
        "processes",
        "first steps s",
        "step s",
        "clip s",
        "slowest",
        "goal",
        "clips/s",
        "GB",
    )
    title = f"A training step, {where}, torch {torch.__version__}"
    table = Table(*columns, "kernels", "busy s", "clip made s", title=title)
    for each in measurements:
        table.add_row(
            each.config,
            str(each.frames),
            each.precision + ", compiled" * each.compiled + ", graphs" * each.graphs,
            str(each.processes),
            f"{sum(each.first):.1f}",
            f"{each.median:.3f}",
            f"{np.median(each.waited):.3f}",
            f"{max(each.seconds):.3f}",
            f"{GOALS[each.stage]:.2f}",
            f"{each.processes / each.median:.2f}",
            f"{each.peak_bytes / 1e9:.1f}" if each.peak_bytes else "",
            "" if each.work is None else f"{each.work.kernels:,}",
            "" if each.work is None else f"{each.work.busy_milliseconds / 1e3:.3f}",
            f"{np.median(each.clip_seconds):.2f}",
        )
    return table


def parts_table(measurement: Measurement) -> Table:
    """A row for each part of a step."""
    table = Table("part", "ms", "in modules", title=f"{measurement.config}, {measurement.precision}, part by part")
    for name, seconds in measurement.parts.seconds.items():
        within = measurement.parts.within.get(name)
        table.add_row(name, f"{1e3 * seconds:.1f}", "" if within is None else f"{1e3 * within:.1f}")
    return table


if __name__ == "__main__":
    run_benchmark(main)
