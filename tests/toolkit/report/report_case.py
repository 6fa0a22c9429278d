"""A small conversion, with all that a report can tell about it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx

from tests.evaluation.evaluations import VERDICT, evaluation
from toolkit.bundle import Bundle
from toolkit.cli.report import report_command
from toolkit.cli.verify import verify_command
from toolkit.data.stage_clock import Stage
from toolkit.evaluation.evaluation_file import EVALUATION, WORST, write_evaluation
from toolkit.graph.provenance import MODEL_KEY
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.run_record import FrameRecord, RunRecord

HOSTILE = "<script>alert('meta')</script>"
"""What a checkpoint may say about itself."""


@dataclass(frozen=True)
class ReportCase:
    """A folder with `bundle`, `results`, `verify.json`, `evaluation` and `rewritten.onnx`."""

    folder: Path
    plugins: PluginManager

    @property
    def bundle(self) -> Bundle:
        return Bundle.read(self.folder / "bundle")

    def write(self, **options: Any) -> str:
        """Run the command, by default with everything there is, and give the page."""
        context: Any = SimpleNamespace(obj=self.plugins)
        given: dict[str, Any] = {
            "bundle": self.folder / "bundle",
            "output": self.folder / "report.html",
            "results": self.folder / "results",
            "verification": self.folder / "verify.json",
            "evaluation": self.folder / "evaluation",
            "rewritten": [self.folder / "rewritten.onnx"],
        }
        report_command(context, **given | options)
        return (self.folder / "report.html").read_text(encoding="utf-8")


def make_report_case(folder: Path, converted: Path, plugins: PluginManager) -> ReportCase:
    """Everything about the bundle `converted`: six frames, of which the last needed a repair and lost tracks."""
    case = ReportCase(folder, plugins)
    shutil.copytree(converted, folder / "bundle")
    bundle = case.bundle
    left_out = {"wipers": "the checkpoint has no entries for it"}
    replace(bundle, provenance={**bundle.provenance, "meta": {"note": HOSTILE}, "left_out": left_out}).write()
    context: Any = SimpleNamespace(obj=plugins)
    verify_command(
        context, folder / "bundle", frames=None, inputs=None, sessions="torch,onnxruntime", length=2,
        output=folder / "verify.json",
    )  # fmt: skip
    write_results(folder / "results", bundle)
    write_judged(folder / "evaluation", bundle)
    write_rewritten(folder / "rewritten.onnx", bundle)
    return case


def write_results(folder: Path, bundle: Bundle) -> None:
    """Pictures of 1920x1080, and the record."""
    folder.mkdir()
    frames = []
    for i in range(6):
        seconds = {Stage.NETWORK: 0.2 + 0.1 * i, Stage.WRITE: 0.01}
        last = i == 5
        frames.append(FrameRecord(f"{i:04d}", HOSTILE, 7, 3 * last, 0, "scene reset" * last, False, seconds))
        cv2.imwrite(str(folder / f"{i:04d}.png"), np.full((1080, 1920, 3), 40 * i, np.uint8))
    RunRecord(bundle.identity, "onnxruntime", tuple(frames)).write(folder)


def write_judged(folder: Path, bundle: Bundle) -> None:
    """Two plots, and a picture of the worst frame alone; a metric has a note that nobody should trust."""
    verdict = replace(VERDICT, notes=[HOSTILE])
    (folder / WORST).mkdir(parents=True)
    write_evaluation(replace(evaluation(verdict), bundle=bundle.identity), folder / EVALUATION)
    cv2.imwrite(str(folder / WORST / "planning-error_1_b.png"), np.full((1000, 1280, 3), 90, np.uint8))


def write_rewritten(path: Path, bundle: Bundle) -> None:
    """The bundle's model, as if a pass had gone over it."""
    model = onnx.load(bundle.onnx, load_external_data=False)
    entry = '[{"pass": "fold-constants", "changes": 4, "nodes_before": 20, "nodes_after": 16, "version": "1"}]'
    onnx.helper.set_model_props(model, {p.key: p.value for p in model.metadata_props} | {MODEL_KEY: entry})
    path.write_bytes(model.SerializeToString())
