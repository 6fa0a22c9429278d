"""Time of one frame on a GPU: the eager network, and the cuda session in each precision, beside the goals.

    python -m benchmarks.gpu_frame [--precision fp32 --precision fp16 …] [--frames 500] [--eager-frames 50]
        [--picture-frames 20] [--config configs/uniad_base_stage2.toml] [--json gpu_frame.json]

One process, one session after the other, each from the start of the same drive, with state fed back. The drive has
five scenes of 20 frames and goes round; with the pseudo-trained weights 30 to 80 objects are reported in a frame, and
most of them are gone in the next one. "Model" is what `session.run` takes by the host's clock, from inputs in the GPU's
memory to outputs in the GPU's memory, the GPU waited for before and after: copying inputs into the graph's buffers, the
launch, and the kernels. Frames to warm up are not counted.

"Transfers" is all else between decoded pictures and results on the host: preprocessing, upload, download, and the check
of the state. It is measured by `uniad-toolkit benchmark`'s code over made-up JPEG files of the cameras' size.

Goals and reference are UniAD-tiny's. The reference in eager PyTorch takes 172.7 ms a frame on one H100 (FP32, no TF32):
6,374 kernels, 29.7 ms of work.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.command import run_benchmark
from benchmarks.gpu_measurement import WARM_UP_FRAMES, Frame, Measurement, measure, percentiles
from benchmarks.gpu_network import bundle_of, config_of, pseudo_network
from toolkit.benchmarking.environment import environment
from toolkit.benchmarking.timed import Part
from toolkit.config.model import ModelConfig
from toolkit.data.probe import probe_frame
from toolkit.engines.gpu.session import CudaGraphSession
from toolkit.engines.torch import TorchSession
from toolkit.precision import Precision

REFERENCE_MS = 172.7
GOALS_MS = {Precision.FP32: 8.6, Precision.TF32: 6.9, Precision.FP16: 4.3}
GOAL_SPREAD = 1.1
"""Of p99 over p50."""
GOAL_TRANSFERS_MS = 1.5
SCENES, SCENE_FRAMES, SCENE_DISTANCE = 5, 20, 1000


def main(
    precision: Annotated[list[Precision] | None, typer.Option(help="Of the cuda session; all by default.")] = None,
    frames: Annotated[int, typer.Option(min=2, help="Frames of the cuda session, after five to warm up.")] = 500,
    eager_frames: Annotated[int, typer.Option(min=2, help="Frames of the eager network, likewise.")] = 50,
    picture_frames: Annotated[int, typer.Option(min=0, help="Frames to time with pictures; 0 for none.")] = 20,
    output: Annotated[Path | None, typer.Option("--json", help="File to write all figures to.")] = None,
    config: Annotated[Path | None, typer.Option(help="Of the network; UniAD-tiny's by default.")] = None,
) -> None:
    """Time the eager network and the cuda session on the GPU at hand."""
    if not torch.cuda.is_available():
        raise SystemExit("needs a CUDA GPU and a torch built for it")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    console = Console(width=130)
    network = pseudo_network(config_of(config))
    bundle = bundle_of(network)
    drive = make_drive(network.graph.config, WARM_UP_FRAMES + max(frames, eager_frames))
    eager = measure(partial(TorchSession, network, "cuda"), bundle, drive, eager_frames, 0, Precision.FP32)
    measurements = [eager]
    console.print(summary(eager, eager))
    for chosen in precision or list(Precision):
        opened = partial(CudaGraphSession.of_network, network, precision=chosen)
        measurements.append(measure(opened, bundle, drive, frames, picture_frames, chosen))
        console.print(summary(measurements[-1], eager))
        if output is not None:  # already, for the next session may take long, or fail
            output.write_text(json.dumps(figures(measurements), indent=1) + "\n", encoding="utf-8")
    console.print(time_table(measurements), work_table(measurements))


def make_drive(config: ModelConfig, most: int) -> list[Frame]:
    """Scene after scene, each from another part of the probe drive, which never looks the same twice.

    Of all frames, the first `most`: one of UniAD-base takes a second and 107 MB.
    """
    places = [(scene, number) for scene in range(SCENES) for number in range(SCENE_FRAMES)]
    return [
        probe_frame(config, SCENE_DISTANCE * scene + number, continues=number > 0) for scene, number in places[:most]
    ]


def summary(found: Measurement, eager: Measurement) -> str:
    """What a session saw, in one line."""
    counts = [len(ids) for ids in found.objects]
    same = sum(one == other for one, other in zip(found.objects, eager.objects, strict=False))
    appeared, vanished = found.changes
    return (
        f"{found.session} {found.precision.value}: p50 {found.percentiles(Part.MODEL)['p50']:.2f} ms in "
        f"{len(counts)} frames, {min(counts)} to {max(counts)} objects, "
        f"{appeared} appeared, {vanished} vanished; the eager network's in {same} of "
        f"{min(len(counts), len(eager.objects))} frames"
    )


def time_table(measurements: Sequence[Measurement]) -> Table:
    """Milliseconds of the model beside goals, the eager network of the same run, and the reference."""
    table = Table(
        *("session", "p50", "p90", "p99", "goal p50", "p99 / p50", "goal", "eager / p50", "reference / p50"),
        title=f"model, milliseconds: {torch.cuda.get_device_name()}, torch {torch.__version__}",
    )
    eager = measurements[0].percentiles(Part.MODEL)["p50"]
    for found in measurements:
        values = found.percentiles(Part.MODEL)
        goal = GOALS_MS.get(found.precision) if found.session != "eager" else None
        spread = values["p99"] / values["p50"]
        table.add_row(
            f"{found.session} {found.precision.value}",
            *(f"{value:.2f}" for value in values.values()),
            verdict(values["p50"], goal),
            f"{spread:.3f}",
            verdict(spread, goal and GOAL_SPREAD),
            f"{eager / values['p50']:.1f}x",
            f"{REFERENCE_MS / values['p50']:.1f}x",
        )
    return table


def verdict(value: float, goal: float | None) -> str:
    """The goal, and whether it is reached."""
    return "" if goal is None else f"≤ {goal:g} {'[green]yes[/]' if value <= goal else '[red]no[/]'}"


def work_table(measurements: Sequence[Measurement]) -> Table:
    """What the GPU does in a frame, all else between pictures and results, and what a session costs beforehand."""
    table = Table(
        *("session", "kernels", "copies", "GPU busy ms", "transfers p50 ms", "p99", "goal p50"),
        *("open s", "first frame s", "GPU memory GiB"),
        title="work of one frame; transfers and preprocessing; before the first result",
    )
    for found in measurements:
        transfers = found.transfers
        table.add_row(
            f"{found.session} {found.precision.value}",
            f"{found.work.kernels:,}",
            str(found.work.copies),
            f"{found.work.busy_milliseconds:.2f}",
            *((f"{transfers[p]:.2f}" for p in ("p50", "p99")) if transfers else ("", "")),
            verdict(transfers["p50"], GOAL_TRANSFERS_MS) if transfers else "",
            f"{found.open_seconds:.1f}",
            f"{found.first_frame_seconds:.1f}",
            f"{found.used_bytes / 2**30:.2f}",
        )
    return table


def figures(measurements: Sequence[Measurement]) -> dict[str, object]:
    """Everything as JSON has it: percentiles, and the time of every frame."""
    sessions = []
    for found in measurements:
        values = asdict(found) | {"objects": [len(ids) for ids in found.objects]}
        values["percentiles"] = {part: found.percentiles(Part(part)) for part in found.milliseconds}
        values["stage_percentiles"] = {name: percentiles(np.array(times)) for name, times in found.stages.items()}
        values["transfers"] = found.transfers
        sessions.append(values)
    return {
        "command": shlex.join(["python", "-m", "benchmarks.gpu_frame", *sys.argv[1:]]),
        "environment": environment("cuda"),
        "reference_milliseconds": REFERENCE_MS,
        "goals_milliseconds": GOALS_MS,
        "goal_spread": GOAL_SPREAD,
        "goal_transfers_milliseconds": GOAL_TRANSFERS_MS,
        "sessions": sessions,
    }


if __name__ == "__main__":
    run_benchmark(main)
