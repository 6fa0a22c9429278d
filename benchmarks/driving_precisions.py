"""How well a trained network drives in FP32, FP16, INT8 and FP8: metrics of `evaluate`, and gates of `quantize`.

    python -m benchmarks.driving_precisions BUNDLE --calibration nuscenes:seen --data nuscenes:unseen \\
        --data nuscenes:seen -o FOLDER [--threads 2] [--budget 5] [--gate-frames 80]

All run in ONNX Runtime on the CPU, which rounds FP16 and FP8 and computes in FP32. INT8 and FP8 are first all layers
that `quantize` may take, by ranges of the calibration (mse), whatever gates say of them. If they fail, `quantize`
chooses within --budget minutes, and what it chose is evaluated as well. Gates are held over the first frames of the
first --data. FOLDER/table.md grows with each evaluation.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from onnx import ModelProto

from benchmarks.command import run_benchmark
from benchmarks.precision import reduced_bundle
from benchmarks.startup import COMMAND
from toolkit.bundle import MANIFEST, Bundle
from toolkit.cli.console import console, print_warning
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.errors import CheckFailed
from toolkit.evaluation.evaluation_file import EVALUATION, Evaluation, read_evaluation
from toolkit.evaluation.judge import select_metrics
from toolkit.graph.model_file import read_model, write_model
from toolkit.graph.precision.policy import FP16
from toolkit.plugin.manager import PluginManager
from toolkit.quantization.calibration import Collected, collect
from toolkit.quantization.calibration_file import Calibration
from toolkit.quantization.candidates import find_candidates, plain_model, tensors_to_calibrate
from toolkit.quantization.drive import Drive, open_drive
from toolkit.quantization.driving import compare_driving
from toolkit.quantization.gates import Finding, judge, worst
from toolkit.quantization.insert import quantize_model
from toolkit.quantization.methods import Method
from toolkit.quantization.quantize import Cache, Frames, Settings, describe, quantize_bundle
from toolkit.quantization.scheme import QuantizationMode, Scheme
from toolkit.quantization.seen import Seen, watch
from toolkit.quantization.trials import written
from toolkit.storage.files import sha256_file

FIGURES = {
    "mAP": "detection/mAP",
    "NDS": "detection/NDS",
    "AMOTA": "tracking/AMOTA",
    "drivable IoU, %": "map/IoU-drivable",
    "car minADE, m": "motion/minADE/car",
    "occupancy IoU near, %": "occupancy/IoU-near",
    "plan L2 at 3 s, m": "planning/L2@3s",
    "collisions, %": "planning/obj_box_col@avg",
}
"""Columns, and the figures in them; those that are not known of FP32 are left out."""


@dataclass(frozen=True)
class Calibrated:
    """A bundle's plain model, how all layers that `quantize` may take are quantized, and the values that they saw."""

    plain: ModelProto
    scheme: Scheme
    collected: Collected


@dataclass(frozen=True)
class Variant:
    """A bundle on disk, how many of its layers have 8 bits, and what gates say of it; nothing of FP32."""

    name: str
    bundle: Bundle
    layers: str = ""
    findings: tuple[Finding, ...] = ()


@dataclass
class Judged:
    """Evaluations of variants by the data they are of, and the tables of them."""

    variants: list[Variant] = field(default_factory=list)
    evaluations: dict[tuple[str, str], Evaluation] = field(default_factory=dict)

    def tables(self, data: list[str], plugins: PluginManager) -> str:
        """Markdown: a row for each variant that was evaluated, a table for each data set, then the gates."""
        metrics = [metric for _, metric in select_metrics(plugins) if metric.losses]
        lines: list[str] = []
        for address in data:
            rows = [each for each in self.variants if (address, each.name) in self.evaluations]
            if not rows:
                continue
            known = self.evaluations[address, self.variants[0].name]
            columns = {title: name for title, name in FIGURES.items() if value_of(known, name) is not None}
            lines += [
                "",
                f"| {address} | layers | {' | '.join(columns)} | metrics' bounds |",
                "|---" * (len(columns) + 3) + "|",
            ]
            for each in rows:
                found = self.evaluations[address, each.name]
                bounds = "" if each is self.variants[0] else verdict(compare_driving(known, found, metrics))
                values = (value_of(found, name) for name in columns.values())
                cells = " | ".join("" if value is None else f"{value:.4g}" for value in values)
                lines.append(f"| {each.name} | {each.layers} | {cells} | {bounds} |")
        lines += ["", "| gates | error / bound, worst | |", "|---|---|---|"]
        lines += [f"| {each.name} | {worst(each.findings)} | {verdict(each.findings)} |" for each in self.variants[1:]]
        return "\n".join(lines).strip() + "\n"


def main(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder of a trained network, of FP32.")],
    calibration: Annotated[str, typer.Option(help="Frames that ranges are found on.")],
    data: Annotated[list[str], typer.Option(help="Frames with ground truth; repeatable.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write, which may exist.")],
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    budget: Annotated[float, typer.Option(help="Minutes for each choice of layers.")] = 5,
    gate_frames: Annotated[int, typer.Option(help="Frames that gates are held over, at most.")] = 80,
) -> None:
    """Make the bundles, evaluate all of them, and print the table."""
    plugins = PluginManager.load()
    original = Bundle.read(bundle, print_warning)
    output.mkdir(exist_ok=True)
    judged, started = Judged(), time.monotonic()
    for variant in variants(original, calibration, data[0], output, plugins, threads, budget, gate_frames):
        judged.variants.append(variant)
        say(started, f"{variant.name}: {verdict(variant.findings)} {variant.layers}")
    for address in data:
        for variant in judged.variants:
            judged.evaluations[address, variant.name] = evaluated(variant, address, output, threads)
            (output / "table.md").write_text(judged.tables(data, plugins), encoding="utf-8")
            say(started, f"{variant.name} on {address}")
    print((output / "table.md").read_text(encoding="utf-8"))


def variants(
    original: Bundle,
    calibration: str,
    driven: str,
    output: Path,
    plugins: PluginManager,
    threads: int,
    budget: float,
    gate_frames: int,
) -> Iterator[Variant]:
    """FP32 first, then the others, each written to the folder."""
    submodules, ops = plugins.submodules(), plugins.custom_ops()
    yield Variant("FP32", original)
    calibrated, drive = (
        open_drive(original, address, plugins.frame_sources(), print_warning) for address in (calibration, driven)
    )
    short = Drive(drive.address, tuple(islice(drive.frames, gate_frames)), drive.config)

    def seen(bundle: Bundle) -> list[Seen]:
        return list(watch(bundle, OnnxRuntimeSession(bundle, threads=threads), submodules, short))

    expected = seen(original)
    with tempfile.TemporaryDirectory() as folder:
        reduced = reduced_bundle(original, FP16, Path(folder), rounded=False)
        half = stored(original, read_model(reduced.onnx), output / "fp16")
    yield Variant("FP16", half, "", judge(expected, seen(half)))

    given = calibrate(original, calibrated, output, plugins, threads)
    for mode in QuantizationMode:
        ranges = Calibration.of(original, calibrated, given.collected, mode, Method.MSE)
        made = quantize_model(given.plain, ranges.ranges, replace(given.scheme, mode=mode), ops)
        name, total = mode.value.upper(), len(made.nodes)
        whole = stored(original, made.model, output / mode.value)
        findings = judge(expected, seen(whole))
        yield Variant(name, whole, f"all {total}", findings)
        if not all(finding.holds for finding in findings):
            cache = output / f"{mode.value}.json"
            ranges.write(cache)
            settings = Settings(mode, Method.MSE, (), 60 * budget, threads)
            chosen_in = fresh(output / f"{mode.value}-chosen")
            try:
                record = quantize_bundle(
                    original, chosen_in, Frames(calibrated, short), settings, submodules, ops, cache=Cache(read=cache)
                )
            except CheckFailed as failed:
                print(f"{name}: {failed}")
                continue
            chosen = describe(original, chosen_in, record)
            yield Variant(f"{name}, as chosen", chosen, f"{len(record.layers)} of {total}", record.gates)


def calibrate(
    bundle: Bundle, frames: Iterable[Mapping[str, np.ndarray]], folder: Path, plugins: PluginManager, threads: int
) -> Calibrated:
    """Run frames in order through a bundle, state fed back; `folder` is for what lasts no longer than that."""
    submodules, ops = plugins.submodules(), plugins.custom_ops()
    plain = plain_model(read_model(bundle.onnx), ops)
    scheme = Scheme(QuantizationMode.INT8, policy=FP16.with_exceptions(submodules))
    candidates = [c for c in find_candidates(plain, ops) if c.layer_class in scheme.classes]
    with written(plain, bundle, folder) as prepared:
        return Calibrated(plain, scheme, collect(prepared, tensors_to_calibrate(candidates), frames, threads=threads))


def stored(bundle: Bundle, model: ModelProto, folder: Path) -> Bundle:
    """A bundle with another model, in a folder of its own."""
    fresh(folder)
    write_model(model, folder / bundle.onnx.name)
    shutil.copyfile(bundle.weights, folder / bundle.weights.name)
    files = [path for path in sorted(folder.iterdir()) if path.name != MANIFEST]
    made = replace(
        bundle,
        path=folder,
        sha256={path.name: sha256_file(path) for path in files},
        sizes={path.name: path.stat().st_size for path in files},
        engines=(),
    )
    made.write()
    return made


def evaluated(variant: Variant, data: str, output: Path, threads: int) -> Evaluation:
    """What `evaluate` says of a bundle."""
    folder = output / f"evaluation of {variant.bundle.path.name} {data.split(':')[-1].replace('/', '_')}"
    options = ("--session", "onnxruntime", "--no-pictures", "--threads", str(threads), "--force")
    asked = (*COMMAND, "evaluate", str(variant.bundle.path), "--data", data, "-o", str(folder), *options)
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or not (folder / EVALUATION).is_file():
        raise SystemExit(done.stderr or done.stdout)
    return read_evaluation(folder / EVALUATION)


def value_of(evaluation: Evaluation, name: str) -> float | None:
    """A figure; None where there was nothing to judge."""
    found = evaluation.figures.get(name)
    return None if found is None else found.value


def verdict(findings: tuple[Finding, ...]) -> str:
    """What fails, and by how much."""
    failed = [f"{finding.subject} {finding.severity:.2f}" for finding in findings if not finding.holds]
    return f"fails: {', '.join(failed)}" if failed else ("holds" if findings else "")


def fresh(folder: Path) -> Path:
    """An empty folder, in place of what an earlier run has left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def say(started: float, what: str) -> None:
    """What is done, and when."""
    console.print(f"{time.monotonic() - started:5.0f} s  {what}", highlight=False, markup=False)


if __name__ == "__main__":
    run_benchmark(main)
