"""The demonstration: every step of the main job on a made-up drive, without any download."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.bundle import Bundle
from toolkit.conversion.convert import convert
from toolkit.conversion.prepare import Progress
from toolkit.data.frame_folder import read_frame_folder
from toolkit.data.frames import Frame
from toolkit.data.stage_clock import Stage, StageClock
from toolkit.demo.demonstration import demonstration
from toolkit.demo.pseudo_weights import ASSET
from toolkit.demo.variant import Variant
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.errors import InputError
from toolkit.evaluation.evaluation_file import EVALUATION, SUBMISSION, write_evaluation
from toolkit.evaluation.judge import evaluation_of, judge, judged_frames, match, select_metrics
from toolkit.evaluation.pictures import draw_evaluation
from toolkit.evaluation.results_set import open_results_set
from toolkit.plugin.manager import PluginManager
from toolkit.report.collect import collect_report
from toolkit.report.render import write_report
from toolkit.runtime.result_writer import write_result
from toolkit.runtime.run_record import FrameRecord, RunRecord
from toolkit.runtime.sequence import run_sequence
from toolkit.specs import Submodule
from toolkit.storage.claims import claim_folder
from toolkit.storage.outputs import new_folder
from toolkit.synthetic.frames import drive_truth, write_drive
from toolkit.visualize.canvas import Picture
from toolkit.visualize.frame_picture import draw_frame, write_picture
from toolkit.visualize.video import frame_rate, video_path, write_video

_DATA = "nuscenes:dataroot"
"""The drive's address in the folder of the demonstration."""


@dataclass(frozen=True)
class DemoSummary:
    """What a demonstration wrote, by what it is, and how much it found."""

    written: Mapping[str, Path]
    frames: int
    boxes: int


def run_demo(
    output: Path,
    plugins: PluginManager,
    *,
    variant: Variant = Variant.MINI,
    force: bool,
    progress: Progress,
    warn: Callable[[str], None],
) -> DemoSummary:
    """Write checkpoint, drive, bundle, results, video, evaluation and report under `output`.

    Without ffmpeg the video is a GIF, without nuScenes' devkit there is no evaluation, and `warn` is told. Raises
    InputError if `output` exists without `force`.
    """
    chosen = demonstration(variant)
    config = chosen.config
    with new_folder(claim_folder(output, "demo", force=force, inputs=plugins.files)) as folder:
        with progress(f"write {chosen.source}"):
            checkpoint, anchors = chosen.weights(folder, plugins.submodules(), config)
        with progress("drive through a made-up town"):
            write_drive(folder / "dataroot", folder / "frames", chosen.drive)
        bundle = convert(
            checkpoint,
            folder / "bundle",
            plugins,
            config=config,
            assets={ASSET: np.load(anchors)},
            progress=progress,
        )
        frames = read_frame_folder(folder / "frames", config.image.cameras)[: chosen.frames]
        (folder / "results").mkdir()
        with progress(f"run {len(frames)} frames on ONNX Runtime and draw them"):
            pictures = _run(bundle, plugins.submodules(), frames, folder / "results")
            rate = frame_rate([(frame.scene, frame.timestamp) for frame in frames])
            video = video_path(folder / "drive.mp4", warn)
            write_video(pictures, video, rate)
        with progress("judge the results by what is known about the town"):
            evaluation = _evaluate(plugins, folder, warn)
        with progress("write the report"):
            report = collect_report(bundle, plugins.submodules(), results=folder / "results", evaluation=evaluation)
            write_report(report, folder / "report.html")
    written = {
        "checkpoint": checkpoint.name,
        "drive, a nuScenes dataset": "dataroot",
        "its frames": "frames",
        "bundle": "bundle",
        "results and pictures": "results",
        "video": video.name,
        **({"evaluation": "evaluation"} if evaluation else {}),
        "report": "report.html",
    }
    records = RunRecord.read(output / "results").frames
    boxes = sum(record.boxes for record in records)
    return DemoSummary({what: output / name for what, name in written.items()}, len(records), boxes)


def _run(bundle: Bundle, submodules: Sequence[Submodule], frames: Sequence[Frame], folder: Path) -> Iterator[Picture]:
    """Run and draw each frame when its picture is asked for; all but the video goes into the folder of results."""
    session, clock = OnnxRuntimeSession(bundle), StageClock[Stage]()
    records = []
    results = run_sequence(bundle, session, submodules, frames, clock=clock)
    for frame, result in zip(frames, results, strict=True):
        write_result(result, folder)
        clock.lap(Stage.WRITE)
        picture = draw_frame(result, frame, bundle.config)
        write_picture(picture, folder / f"{frame.name}.jpg")
        clock.lap(Stage.DRAW)
        records.append(FrameRecord.of_result(result, clock.take(), left_out=False))
        yield picture
        clock.skip()
    RunRecord(bundle.identity, "onnxruntime", tuple(records)).write(folder)


def _evaluate(plugins: PluginManager, folder: Path, warn: Callable[[str], None]) -> Path | None:
    """Judge the results by the drive's tables, by every metric; where the evaluation is, None without the devkit."""
    try:
        truth = drive_truth(folder / "dataroot")
    except InputError as error:
        warn(f"there is no evaluation: {error}")
        return None
    results = open_results_set([folder / "results"])
    matched = match(results, truth, _DATA)
    output = folder / "evaluation"
    output.mkdir()
    frames = judged_frames(results, matched)
    judgement = judge(frames, truth, select_metrics(plugins), plugins, output / SUBMISSION)
    evaluation = evaluation_of(results, matched, judgement.findings, _DATA)
    write_evaluation(evaluation, output / EVALUATION)
    draw_evaluation(evaluation, truth, results, plugins.submodules(), output)
    return output
