"""A quantized bundle beside FP32 over a long drive, each with its own state: every gate, and how states' norms go.

    uniad-toolkit synthesize -o drive --scenes 1 --keyframes 200
    python -m benchmarks.long_drive BUNDLE BUNDLE.int8 nuscenes:drive [--threads 2]

The last lines have, for each float of the state, its norm over that of FP32's: means of each fifth of the drive, then
the least and the largest of any frame. Exit status 1 if a gate fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track

from benchmarks.command import run_benchmark
from toolkit.bundle import Bundle
from toolkit.cli.console import console, plain, print_warning
from toolkit.cli.quantize_tables import gate_table
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.plugin.manager import PluginManager
from toolkit.quantization.drive import Drive, open_drive
from toolkit.quantization.gates import judge
from toolkit.quantization.seen import Seen, watch

PARTS = 5


def main(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, of FP32.")],
    quantized: Annotated[Path, typer.Argument(help="Bundle folder, quantized.")],
    frames: Annotated[str, typer.Argument(help="Frames of one scene.")],
    threads: Annotated[int | None, typer.Option(help="CPU threads; by default one a core.")] = None,
) -> None:
    """Drive with both, and compare."""
    plugins = PluginManager.load()
    original = Bundle.read(bundle, print_warning)
    drive = open_drive(original, frames, plugins.frame_sources(), print_warning)
    expected = driven(original, drive, plugins, threads)
    actual = driven(Bundle.read(quantized, print_warning), drive, plugins, threads)
    findings = judge(expected, actual)
    console.print(gate_table(findings))
    for name in expected[0].norms:
        norms = ([frame.norms[name] for frame in drive] for drive in (expected, actual))
        console.print(f"{plain(name)}: {course(*norms)}")
    if not all(finding.holds for finding in findings):
        raise typer.Exit(1)


def course(expected: Sequence[float], actual: Sequence[float]) -> str:
    """Norms frame by frame over those of FP32's, as the last lines have them; a state may be empty for a while."""
    ratios = np.array([there / here if here > 0 else np.nan for here, there in zip(expected, actual, strict=True)])
    known = ratios[np.isfinite(ratios)]
    if not known.size:
        return "zero in FP32 in all frames"
    fifths = (part[np.isfinite(part)] for part in np.array_split(ratios, PARTS))
    means = (f"{part.mean():.4f}" if part.size else "zero" for part in fifths)
    return f"{', '.join(means)}; {known.min():.4f} to {known.max():.4f}"


def driven(bundle: Bundle, drive: Drive, plugins: PluginManager, threads: int | None) -> Sequence[Seen]:
    """What a bundle says of each frame."""
    session = OnnxRuntimeSession(bundle, threads=threads)
    shown = track(watch(bundle, session, plugins.submodules(), drive), bundle.path.name, total=len(drive))
    return list(shown)


if __name__ == "__main__":
    run_benchmark(main)
