"""What submodules and operators of bundles take on the CPU, side by side, as ONNX Runtime's profiler times their nodes.

    python -m benchmarks.node_times BUNDLE BUNDLE.int8 [--threads 2] [--frames 9]

Of each node the least time over the frames counts, but the first, so that other work on the machine hardly matters.
What a frame takes besides, between nodes, is the first line's difference to the sum; recording is in it.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from benchmarks.command import run_benchmark
from toolkit.bundle import Bundle
from toolkit.cli.console import print_warning
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.engines.onnxruntime_profile import OTHER
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.verification.sequence import probe_sequence

KERNEL = "_kernel_time"
ROWS = 24
"""Of operators, at most: those that take most."""


@dataclass(frozen=True)
class Times:
    """Milliseconds of a frame, and of its nodes by submodule and by operator."""

    frame: float
    submodules: Mapping[str, float]
    operators: Mapping[str, float]


def main(
    bundles: Annotated[list[Path], typer.Argument(help="Bundle folders, the one of FP32 first.")],
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    frames: Annotated[int, typer.Option(min=2, help="Made-up frames to run.")] = 9,
) -> None:
    """Run each bundle, and print what takes most."""
    times = [profiled(Bundle.read(path, print_warning), threads, frames) for path in bundles]
    table = Table("ms", *(Column(path.name, justify="right") for path in bundles))
    table.add_row("frame", *(f"{each.frame:.1f}" for each in times), end_section=True)
    for kind in ("submodules", "operators"):
        taken: list[Mapping[str, float]] = [getattr(each, kind) for each in times]
        table.add_row(f"all {kind}", *(f"{sum(each.values()):.1f}" for each in taken))
        names = sorted(set[str]().union(*taken), key=lambda name: -max(each.get(name, 0) for each in taken))
        for name in names[:ROWS]:
            table.add_row(name, *(f"{each.get(name, 0):.1f}" for each in taken))
        table.add_section()
    Console().print(table)


def profiled(bundle: Bundle, threads: int, frames: int) -> Times:
    """The times of a bundle's network on made-up frames, state fed back."""
    known = {record.name for record in bundle.submodules}
    with tempfile.TemporaryDirectory() as folder:
        session = OnnxRuntimeSession(bundle, threads=threads, profile=Path(folder) / "profile")
        runner = TemporalRunner(bundle, session)
        for frame in probe_sequence(bundle, frames).frames:
            runner.step(frame)
        return least(json.loads(session.end_profile().read_text(encoding="utf-8")), known)


def least(events: Sequence[dict[str, Any]], submodules: set[str]) -> Times:
    """The least time of each node, and of a run, over all runs of a profile but the first."""
    runs = sorted((event["ts"], event["dur"]) for event in events if event["name"] == "model_run")[1:]
    taken, operators = defaultdict[str, list[int]](list), dict[str, str]()
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(KERNEL) and event["ts"] >= runs[0][0]:
            taken[event["name"]].append(event["dur"])
            operators[event["name"]] = event["args"]["op_name"]
    times = defaultdict[str, float](float), defaultdict[str, float](float)
    for name, durations in taken.items():
        owner = name.removeprefix("fused ").partition("/")[0]
        for sums, key in zip(times, (owner if owner in submodules else OTHER, operators[name]), strict=True):
            sums[key] += min(durations) / 1000
    return Times(min(duration for _, duration in runs) / 1000, *times)


if __name__ == "__main__":
    run_benchmark(main)
