"""Long closed-loop runs: memory, finite state, track ids and time over thousands of frames with scene changes.

    python -m benchmarks.soak [--frames 2000] [--scene 250] [--session torch --session onnxruntime] [--bundle BUNDLE]
    python -m benchmarks.soak --full --frames 150 --scene 50 --session onnxruntime

Without a bundle it converts a reduced network, with made-up weights, small enough for thousands of frames on a CPU;
with --full one of the size of UniAD-tiny.
Exit status 1 if the state or the results were ever not finite, memory grew, or no track was ever born (then nothing
was fed back).
"""

from __future__ import annotations

import math
import resource
import statistics
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console

from benchmarks.command import run_benchmark
from toolkit.bundle import Bundle
from toolkit.cli.console import step
from toolkit.cli.sessions import open_session
from toolkit.config.model import (
    BevConfig,
    ImageConfig,
    MapConfig,
    ModelConfig,
    MotionConfig,
    PlanningConfig,
    TrackingConfig,
)
from toolkit.conversion.convert import convert
from toolkit.data.probe import FRAME_SECONDS, SPEED, YAW_RATE, probe_frame
from toolkit.demo.pseudo_weights import pseudo_motion_anchors, pseudo_trained_weights
from toolkit.engines.session import Session
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.wiring import join

REDUCED = ModelConfig(
    embed=64,
    feedforward=64,
    image=ImageConfig(scale=0.06, stage_blocks=(1, 1, 1, 1)),
    bev=BevConfig(height=20, width=20, layers=1),
    tracking=TrackingConfig(queries=61, layers=2, track_capacity=101, max_reports=40, agent_capacity=16),
    map=MapConfig(queries=20, encoder_layers=1, decoder_layers=2, thing_mask_layers=1, stuff_mask_layers=1,
                  max_instances=10),
    motion=MotionConfig(layers=1),
    planning=PlanningConfig(layers=1),
)  # fmt: skip
"""Every submodule, small; with these weights the capacity for tracks overflows now and then."""

SETTLED = 200
"""Frames after which allocators and caches have reached their size; of shorter runs the first third."""
GROWTH = 32.0
"""MB: over 1,800 frames this is 18 KB a frame, less than a tenth of the reduced network's state."""


@dataclass(frozen=True)
class Soak:
    """What one session did over all frames."""

    frames: int
    births: int
    most_tracks: int
    dropped: int
    unsound: int
    """Frames after which the state had to be repaired, or whose results were not finite."""
    growth: float
    """Of the resident memory once it had settled, MB."""
    milliseconds: tuple[float, float, float]
    """Median time of a frame: of all, of those before memory had settled, and of as many at the end."""

    def faults(self, growth: float) -> list[str]:
        """What must not be, in words, with at most `growth` MB of new memory allowed."""
        found = []
        if self.unsound:
            found.append(f"{self.unsound} frames with values that are not finite")
        if not self.births:
            found.append("no track was born")
        if self.growth > growth:
            found.append(f"memory grew by {self.growth:.1f} MB, more than {growth:g}")
        return found


def main(
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder; by default a reduced network.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Without a bundle, a network of full size.")] = False,
    frames: Annotated[int, typer.Option(min=1, help="Frames for each session.")] = 2000,
    scene: Annotated[int, typer.Option(min=1, help="Frames to a scene.")] = 250,
    session: Annotated[list[str] | None, typer.Option(help="Sessions to run; both by default.")] = None,
    growth: Annotated[float, typer.Option(help="Most that memory may grow, MB.")] = GROWTH,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
) -> None:
    """Run each session over a long drive and check what must not change."""
    torch.set_num_threads(threads)
    console, plugins, failed = Console(highlight=False), PluginManager.load(), False
    with tempfile.TemporaryDirectory() as folder:
        if bundle is None:
            with step("convert a network of full size" if full else "convert the reduced network"):
                bundle = convert_made_up(ModelConfig() if full else REDUCED, Path(folder), plugins).path
        opened = Bundle.read(bundle)
        for kind in session or ("onnxruntime", "torch"):
            console.print(f"{kind}: {frames} frames, a new scene every {scene}")
            runner = open_session(opened, kind, plugins)
            settled = min(SETTLED, max(1, frames // 3))
            report = soak(opened, runner, drive(opened.config, frames, scene), settled=settled, console=console)
            faults = report.faults(growth)
            failed |= bool(faults)
            median, first, last = report.milliseconds
            console.print(
                f"  at most {report.most_tracks} tracks, memory grew by {report.growth:.1f} MB, "
                f"median {median:.1f} ms a frame, of the first {settled} {first:.1f}, of the last {last:.1f}"
            )
            console.print(f"  [red]FAILED: {'; '.join(faults)}[/]" if faults else "  [green]passed[/]")
    raise typer.Exit(int(failed))


def convert_made_up(config: ModelConfig, folder: Path, plugins: PluginManager, names: Collection[str] = ()) -> Bundle:
    """A bundle of a network with made-up weights; of the named submodules alone, if there are names."""
    submodules = [s for s in plugins.submodules() if not names or s.name in names]
    weights = pseudo_trained_weights(Network(join(submodules, config)))
    torch.save({"state_dict": weights}, folder / "checkpoint.pth")
    assets = {asset.key: pseudo_motion_anchors(config) for s in submodules for asset in s.assets}
    return convert(folder / "checkpoint.pth", folder / "bundle", plugins, config=config, assets=assets)


def drive(config: ModelConfig, frames: int, scene: int) -> Iterator[dict[str, np.ndarray]]:
    """Frames around a circle of 40 m, made one at a time; no two have the same images."""
    radius = SPEED / YAW_RATE
    for number in range(frames):
        frame = probe_frame(config, number, continues=number % scene > 0)
        yaw = YAW_RATE * FRAME_SECONDS * number % (2 * math.pi)
        frame["can_bus"][16] = yaw
        frame["timestamp"][:] = FRAME_SECONDS * (number % scene)
        frame["l2g_translation"][:2] = radius * math.sin(yaw), radius * (1 - math.cos(yaw))
        yield frame


def soak(
    bundle: Bundle,
    session: Session,
    frames: Iterable[dict[str, np.ndarray]],
    *,
    settled: int,
    console: Console | None = None,
) -> Soak:
    """Run the frames with state fed back and watch; print a line every `settled` frames, from which memory counts."""
    runner = TemporalRunner(bundle, session)
    wanted = [spec.name for spec in bundle.results]
    seconds: list[float] = []
    births = most_tracks = dropped = unsound = 0
    before = resident()
    for number, frame in enumerate(frames, start=1):
        started = time.perf_counter()
        results = runner.step(frame, wanted)
        seconds.append(time.perf_counter() - started)
        births = int(results["next_track_id"].item())
        most_tracks = max(most_tracks, results["track_count"].item() - bundle.config.tracking.queries)
        dropped += results["dropped_tracks"].item()
        unsound += bool(runner.repairs) or not all(np.isfinite(array).all() for array in results.values())
        if number == settled:
            before = resident()
        if console and number % settled == 0:
            recent = 1000 * statistics.median(seconds[-settled:])
            console.print(
                f"  frame {number:6}  {resident():7.1f} MB  {recent:6.1f} ms  {births:6} births  "
                f"{dropped:6} dropped  {unsound} unsound"
            )
    growth = resident() - before
    median, first, last = (1000 * statistics.median(some) for some in (seconds, seconds[:settled], seconds[-settled:]))
    return Soak(len(seconds), births, most_tracks, dropped, unsound, growth, (median, first, last))


def resident() -> float:
    """Memory of this process that is in RAM, MB; Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    run_benchmark(main)
