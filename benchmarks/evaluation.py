"""What it costs to judge the results of a validation set: minutes and memory of `evaluate` for 150 scenes of 40 frames.

    python -m benchmarks.evaluation [--scenes 150] [--keyframes 40] [--metrics tracking]

A synthetic drive of two scenes is copied under the names of nuScenes' validation scenes. The results are what is true,
with noise, and each frame has 300 detections, as a network of 900 queries does. The time that nuscenes-devkit takes for
detection and tracking is told apart. Needs some gigabytes of disk and ten minutes before it begins to measure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from nuscenes.utils.splits import create_splits_scenes
from rich.console import Console

from benchmarks.command import run_benchmark
from benchmarks.ideal_results import ideal_results
from toolkit.data.nuscenes.annotations import read_ground_truth
from toolkit.data.sources import comma_separated
from toolkit.evaluation.judge import select_metrics
from toolkit.evaluation.metric import Metric
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.result_writer import write_result
from toolkit.runtime.results import Detections, FrameResult, TrackedBox
from toolkit.runtime.run_record import FrameRecord, RunRecord
from toolkit.synthetic.dataset import DriveSettings, synthesize

MADE = 2
"""Scenes that are made; the others are copies of theirs."""
IMAGE_SCALE = 0.02
"""Pictures do not matter here."""
TABLES = ("scene", "sample", "sample_data", "sample_annotation", "instance", "ego_pose")
"""Those of which each scene has rows of its own."""
DAY = 86_400_000_000
"""Microseconds between two copies."""
NOISE_METRES, DETECTIONS = 0.3, 300
OF_THE_DEVKIT = ("detection", "tracking")
MEASURED = """
import re, sys, time
from pathlib import Path
from toolkit.cli.main import main
try:
    main()
finally:
    peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)
    print("cost", time.process_time(), peak, file=sys.stderr)
"""
"""A command that says what it took: processor seconds, and its own peak of memory in KiB."""


def main(
    scenes: Annotated[int, typer.Option(min=1, max=150, help="Scenes to judge.")] = 150,
    keyframes: Annotated[int, typer.Option(min=1, help="Key frames of each.")] = 40,
    metrics: Annotated[str | None, typer.Option(help="Judge by these alone, such as a,b.")] = None,
) -> None:
    """Make data and results, judge them, and print the figures."""
    chosen = select_metrics(PluginManager.load(), comma_separated(metrics))
    cv2.setNumThreads(1)
    console = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        data = make_data(folder, create_splits_scenes()["val"][:scenes], keyframes)
        frames = make_results(data, folder / "results")
        console.print(f"{frames} frames of {scenes} scenes, {DETECTIONS} detections each")
        for together in groups(chosen):
            seconds, processor, peak = judge(data, folder, together)
            cost = f"{seconds / 60:5.1f} min ({processor / 60:.1f} of one core), {peak / 1e9:.2f} GB"
            console.print(f"  {cost}: {', '.join(together)}")


def groups(chosen: Sequence[tuple[str, Metric]]) -> list[list[str]]:
    """Names of metrics that are judged together: our own, and each of the devkit's."""
    names = [metric.name for _, metric in chosen]
    own = [name for name in names if name not in OF_THE_DEVKIT]
    return [*([own] if own else []), *([name] for name in names if name in OF_THE_DEVKIT)]


def make_data(folder: Path, names: Sequence[str], keyframes: int) -> Path:
    """A nuScenes folder whose v1.0-trainval holds scenes of these names."""
    data = folder / "data"
    list(synthesize(data, DriveSettings(MADE, keyframes, version="v1.0-trainval", image_scale=IMAGE_SCALE)))
    version = data / "v1.0-trainval"
    tables = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in version.glob("*.json")}
    own = {row["token"] for table in TABLES for row in tables[table]}
    belongs = scenes_of(tables)
    for table in TABLES:
        rows = [
            copied for number, name in enumerate(names) for copied in copies(tables[table], own, belongs, number, name)
        ]
        (version / f"{table}.json").write_text(json.dumps(rows), encoding="utf-8")
    return data


def scenes_of(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, int]:
    """By the token of each row that belongs to a scene, which of the scenes it is."""
    order = {row["token"]: index for index, row in enumerate(tables["scene"])}
    found = dict(order)
    found |= {row["token"]: order[row["scene_token"]] for row in tables["sample"]}
    for table in ("sample_data", "sample_annotation"):
        found |= {row["token"]: found[row["sample_token"]] for row in tables[table]}
    found |= {row["ego_pose_token"]: found[row["token"]] for row in tables["sample_data"]}
    found |= {row["instance_token"]: found[row["token"]] for row in tables["sample_annotation"]}
    return found


def copies(
    rows: Sequence[Mapping[str, Any]], own: set[str], belongs: Mapping[str, int], number: int, name: str
) -> Iterator[dict[str, Any]]:
    """The rows of one of the scenes that were made, as those of the `number`-th scene that is wanted."""
    for row in rows:
        if belongs[row["token"]] != number % MADE:
            continue
        copied: dict[str, Any] = {
            key: f"{value}-{number}" if isinstance(value, str) and value in own else value for key, value in row.items()
        }
        if "timestamp" in copied:
            copied["timestamp"] += DAY * number
        if "name" in copied:
            copied["name"] = name
        yield copied


def make_results(data: Path, folder: Path) -> int:
    """Write results with noise as `run` would; returns of how many frames."""
    truth = read_ground_truth(data, version="v1.0-trainval", split="val")
    rng = np.random.Generator(np.random.PCG64(0))
    folder.mkdir()
    records = []
    for result in ideal_results(truth):
        noisy = with_noise(result, rng)
        write_result(noisy, folder)
        records.append(FrameRecord.of_result(noisy, {}, left_out=False))
    RunRecord("benchmark", "benchmark", tuple(records)).write(folder)
    return len(records)


def with_noise(result: FrameResult, rng: np.random.Generator) -> FrameResult:
    """Boxes and plan are off by some decimetres, scores differ, and the rest of the detections lie anywhere."""
    boxes = [noisy_box(box, rng) for box in result.boxes]
    boxes.sort(key=lambda box: -box.score)
    rows = [(*box.center, *box.size, box.heading, *box.velocity) for box in boxes]
    classes = result.detections.classes if result.detections else ()
    further = max(DETECTIONS - len(rows), 0)
    anywhere = rng.uniform((-50, -50, -1, 0.5, 0.5, 0.5, -3, 0, 0), (50, 50, 1, 3, 8, 3, 3, 9, 9), (further, 9))
    labels = [classes.index(box.label) for box in boxes]
    scores = [box.score for box in boxes]
    detections = Detections(
        classes=classes,
        labels=np.array([*labels, *rng.integers(len(classes), size=further)], np.int32),
        scores=np.array([*scores, *-np.sort(-rng.uniform(0, min(scores, default=0.1), further))], np.float32),
        boxes=np.concatenate((np.array(rows, np.float32).reshape(-1, 9), anywhere.astype(np.float32))),
    )
    plan = result.plan and replace(
        result.plan, points=(result.plan.points + rng.normal(0, NOISE_METRES, (6, 2))).astype(np.float32)
    )
    return replace(result, boxes=tuple(boxes), detections=detections, plan=plan)


def noisy_box(box: TrackedBox, rng: np.random.Generator) -> TrackedBox:
    """The box elsewhere, of another score."""
    x, y = (np.array(box.center[:2]) + rng.normal(0, NOISE_METRES, 2)).tolist()
    return replace(box, center=(x, y, box.center[2]), score=float(rng.uniform(0.2, 1.0)))


def judge(data: Path, folder: Path, metrics: Sequence[str]) -> tuple[float, float, float]:
    """Seconds, processor seconds and bytes at most that `evaluate` takes for these metrics."""
    address = f"nuscenes:{data}?version=v1.0-trainval&split=val"
    command = ["evaluate", str(folder / "results"), "--data", address, "-o", str(folder / "evaluation"), "--force"]
    begin = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, *command, "--metrics", ",".join(metrics)],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - begin
    if run.returncode:
        raise SystemExit(run.stderr)
    _, processor, peak = run.stderr.splitlines()[-1].split()
    return seconds, float(processor), 1024.0 * int(peak)


if __name__ == "__main__":
    run_benchmark(main)
