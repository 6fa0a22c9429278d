"""Speed of `uniad-toolkit synthesize`: key frames a second on one core, and where the time goes.

    python -m benchmarks.synthesize [--scenes 2] [--keyframes 40]

Exit status 1 if it is slower than two key frames a second of processor time.
"""

from __future__ import annotations

import cProfile
import pstats
import tempfile
import time
from pathlib import Path
from typing import Annotated

import cv2
import typer
from rich.console import Console

from benchmarks.command import run_benchmark
from toolkit.synthetic.dataset import DriveSettings, synthesize

WANTED = 2.0
"""Key frames a second."""
STAGES = {
    "map files": ("dataset.py", "_write_map"),
    "traffic": ("population.py", "populate"),
    "sky": ("sky.py", "draw"),
    "ground": ("ground.py", "draw_ground"),
    "shadows": ("painter.py", "_cast_shadows"),
    "houses, trees, poles": ("painter.py", "_draw_fixed"),
    "actors": ("painter.py", "_draw_actor"),
    "visibility": ("painter.py", "_mark"),
    "JPEG": ("~", "<imencode>"),
    "LiDAR": ("lidar.py", "scan"),
    "CAN bus": ("can_bus.py", "can_bus"),
    "tables": ("tables.py", "build_tables"),
}
"""What is shown of the profile: the file and name of a function."""


def main(
    scenes: Annotated[int, typer.Option(help="Scenes to make.")] = 2,
    keyframes: Annotated[int, typer.Option(help="Key frames of each.")] = 40,
) -> None:
    """Make a dataset, then a small one under the profiler, and print the figures."""
    cv2.setNumThreads(1)
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        wall, processor = time.perf_counter(), time.process_time()
        count = len(list(synthesize(Path(folder) / "set", DriveSettings(scenes, keyframes))))
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        console.print(
            f"{count} key frames: {processor:.1f} s of processor time, {wall:.1f} s; "
            f"{count / processor:.2f} key frames a second of processor time; {size / 1e6:.0f} MB"
        )
        profile = cProfile.Profile()
        profile.enable()
        profiled = len(list(synthesize(Path(folder) / "profiled", DriveSettings(1, 10))))
        profile.disable()
    print_stages(console, pstats.Stats(profile), profiled)
    if count / processor < WANTED:
        raise typer.Exit(1)


def print_stages(console: Console, stats: pstats.Stats, count: int) -> None:
    """Milliseconds of each stage, under the profiler, which slows Python code down."""
    console.print(f"under the profiler, one scene of {count} key frames:")
    rows = {(Path(file).name, name): row[3] for (file, _, name), row in getattr(stats, "stats").items()}  # noqa: B009
    for stage, function in STAGES.items():
        console.print(f"  {rows[function] / count * 1000:7.1f} ms a key frame  {stage}")


if __name__ == "__main__":
    run_benchmark(main)
