"""What FP16, INT8 and FP8 change in what a network decides over given tensors, each with its own state fed back.

    python -m benchmarks.replayed_precisions BUNDLE inputs.npz [--keep occupancy …] [--threads 2]

`inputs.npz` is as `uniad-toolkit replay` takes it. All run in ONNX Runtime on the CPU, which rounds FP16 and FP8 and
computes in FP32. Ranges (mse) are those of the same frames. INT8 and FP8 are first all layers that `quantize` may take,
then those that --keep leaves. There is no ground truth: all figures are agreement with FP32.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.command import run_benchmark
from benchmarks.driving_precisions import calibrate, say, verdict
from benchmarks.precision import reduced_bundle
from toolkit.bundle import Bundle
from toolkit.cli.console import print_warning
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.graph.precision.policy import FP16
from toolkit.plugin.manager import PluginManager
from toolkit.quantization.calibration_file import ranges_from
from toolkit.quantization.gates import Finding, judge
from toolkit.quantization.insert import quantize_model
from toolkit.quantization.methods import Method
from toolkit.quantization.scheme import QuantizationMode
from toolkit.quantization.seen import Seen, Sight
from toolkit.quantization.trials import written
from toolkit.runtime.results import Mask
from toolkit.specs import Submodule
from toolkit.verification.observation import Observer
from toolkit.verification.sequence import official_sequence

Frames = Sequence[Mapping[str, np.ndarray]]
Cells = Mapping[str, Mask]
"""Grids of cells by what fills them."""


@dataclass(frozen=True)
class Driven:
    """What a network decided in each frame: what gates see, and which cells are filled."""

    seen: Sequence[Seen]
    cells: Sequence[Cells]


@dataclass(frozen=True)
class Row:
    """What gates say of a variant, and for each grid the share of cells filled by either that both fill."""

    name: str
    layers: str
    findings: Sequence[Finding]
    overlap: Mapping[str, float]


def main(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, of FP32.")],
    inputs: Annotated[Path, typer.Argument(help="npz with keys f{t}.in.NAME, as `replay` takes it.")],
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    keep: Annotated[list[str] | None, typer.Option(help="Pattern of layers that stay as they are; repeatable.")] = None,
) -> None:
    """Drive in each precision, and print the table."""
    original = Bundle.read(bundle, print_warning)
    frames = list(official_sequence(original, inputs, None).frames)
    started, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        for row in compared(original, frames, Path(folder), threads, keep or ()):
            rows.append(row)
            say(started, f"{row.name} {row.layers}: {verdict(tuple(row.findings))}")
    print(table(rows))


def compared(bundle: Bundle, frames: Frames, folder: Path, threads: int, keep: Sequence[str]) -> Iterator[Row]:
    """A row for each precision, with 8 bits in all layers and, if any are to be kept, without these."""
    plugins = PluginManager.load()
    submodules = plugins.submodules()
    expected = driven(bundle, frames, submodules, threads)
    reduced = reduced_bundle(bundle, FP16, folder, rounded=False)
    yield row("FP16", "", expected, driven(reduced, frames, submodules, threads))

    given = calibrate(bundle, frames, folder, plugins, threads)
    for mode in QuantizationMode:
        ranges = ranges_from(given.collected, mode, Method.MSE)
        for patterns in dict.fromkeys(((), tuple(keep))):
            made = quantize_model(
                given.plain, ranges, replace(given.scheme, mode=mode, keep=patterns), plugins.custom_ops()
            )
            with written(made.model, bundle, folder) as quantized:
                again = driven(quantized, frames, submodules, threads)
            yield row(mode.value.upper(), str(len(made.nodes)), expected, again)


def driven(
    bundle: Bundle, frames: Iterable[Mapping[str, np.ndarray]], submodules: Sequence[Submodule], threads: int
) -> Driven:
    """What a bundle's model does in ONNX Runtime, its own state fed back."""
    observer, sight = Observer(bundle, OnnxRuntimeSession(bundle, threads=threads)), Sight(bundle, submodules)
    seen, cells = [], []
    for frame in frames:
        observation = observer.step(frame)
        seen.append(sight.of(observation))
        cells.append({} if seen[-1].broken else sight.masks(observation))
    return Driven(seen, cells)


def row(name: str, layers: str, expected: Driven, actual: Driven) -> Row:
    """How two drives agree."""
    return Row(name, layers, judge(expected.seen, actual.seen), overlap(expected.cells, actual.cells))


def overlap(expected: Sequence[Cells], actual: Sequence[Cells]) -> dict[str, float]:
    """By grid, over all frames: cells that both fill, of those that either fills; NaN where neither fills any."""
    shares = {}
    for grid in expected[0]:
        pairs = [(there[grid], here[grid]) for there, here in zip(expected, actual, strict=True) if here]
        either = sum(np.count_nonzero(there | here) for there, here in pairs)
        both = sum(np.count_nonzero(there & here) for there, here in pairs)
        shares[grid] = both / either if either else np.nan
    return shares


def table(rows: Sequence[Row]) -> str:
    """Markdown: a row for each variant; gates in their own words, states by the one that moves farthest."""
    subjects = [finding.subject for finding in rows[0].findings if finding.text and not is_state(finding)]
    grids = list(rows[0].overlap)
    columns = ["", "layers", *subjects, *(f"{grid}: IoU with FP32" for grid in grids), "worst state", "gates"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for each in rows:
        by_subject = {finding.subject: finding for finding in each.findings}
        texts = [by_subject[subject].text if subject in by_subject else "" for subject in subjects]
        shares = [f"{each.overlap[grid]:.3f}" for grid in grids]
        states = [finding for finding in each.findings if is_state(finding)]
        worst = max(states, key=lambda finding: finding.severity).text if states else ""
        cells = (each.name, each.layers, *texts, *shares, worst, verdict(tuple(each.findings)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def is_state(finding: Finding) -> bool:
    """Whether a gate is of the state."""
    return finding.subject.startswith("state ")


if __name__ == "__main__":
    run_benchmark(main)
