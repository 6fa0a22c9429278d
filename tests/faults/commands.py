"""Every command that writes, at a size at which it takes a moment."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch

from custom_ops.rotate.op import ROTATE
from tests.corpus.sample import make_frame
from tests.evaluation.hand_made_results import write_results
from tests.tensorrt.cases import CASES, write_model
from tests.toolkit.conftest import ODOMETRY, PLANNER
from toolkit.cli.main import run
from toolkit.config.model import ModelConfig
from toolkit.data.frame_folder import write_frame
from toolkit.engines.tensorrt.rtx import BINDINGS
from toolkit.network import Network
from toolkit.synthetic.dataset import DriveSettings, synthesize
from toolkit.wiring import join


@dataclass(frozen=True)
class WritingCommand:
    """A command whose `{sample}` and `{material}` are folders; it is run in a folder of its own.

    `copies` are put there first, from the material. `repeats`: it can be run again over its own output. `proof` is a
    command that succeeds on the output. `needs` are optional modules.
    """

    name: str
    line: str
    copies: tuple[str, ...] = ()
    repeats: bool = True
    proof: str = ""
    needs: tuple[str, ...] = ()


OFFICIAL = ("image_encoder", "bev_encoder", "tracking", "map_segmentation", "motion", "occupancy", "planning")
TINY = "--plugin {material}/tiny.py " + " ".join(f"--disable-plugin plugins.{name}.plugin" for name in OFFICIAL)
QUICK = (
    WritingCommand("config", "config {sample}/model.toml -o c.toml"),
    WritingCommand("inspect", "inspect {sample}/bundle --json i.json"),
    WritingCommand("bridge", "bridge -o uniad_bridge.py", repeats=False),
    WritingCommand("new-op", "new-op my_op -o my_op", repeats=False),
    WritingCommand("new-pass", "new-pass my-pass -o my_pass", repeats=False),
    WritingCommand("init-stage1", "init-stage1 {material}/detector.pth -o start.safetensors"),
    WritingCommand("pseudo-weights", "pseudo-weights --config {sample}/model.toml -o out --force"),
    WritingCommand("run", "run {sample}/bundle {material}/frames -o out --force"),
    WritingCommand("run-no-pictures", "run {sample}/bundle {material}/frames -o out --helpers 2 --no-pictures --force"),
    WritingCommand("replay", "replay {sample}/bundle {sample}/inputs.npz -o out.npz"),
    WritingCommand("verify", "verify {sample}/bundle --length 1 --json v.json"),
    WritingCommand("report", "report {sample}/bundle --run {material}/results -o r.html"),
    WritingCommand(
        "evaluate",
        "evaluate {material}/judged --data hand:val --metrics ends,cars -o out --force --plugin {material}/judging.py",
    ),
    WritingCommand("benchmark", "benchmark {sample}/bundle --frames 1 --json b.json"),
    WritingCommand(
        "visualize", "visualize {material}/results -o out --video v.gif --rerun r.rrd --force", needs=("rerun",)
    ),
    WritingCommand(
        "visualize-mp4", "visualize {material}/results -o out --video v.mp4 --rerun out/r.rrd --force", needs=("rerun",)
    ),
    WritingCommand("rewrite", "rewrite {material}/node.onnx -o n.onnx --no-check"),
    WritingCommand("synthesize", "synthesize -o out --scenes 1 --keyframes 1 --force"),
    WritingCommand("prepare", "prepare --dataroot {material}/drive -o out --force", needs=("nuscenes",)),
)
SLOW = (
    WritingCommand("kernels", "kernels compile --arch sm_89 -o out --force " + TINY, needs=("cuda",)),
    WritingCommand(
        "convert", f"convert {{material}}/tiny.pth -o out --force {TINY}", proof=f"verify out --length 1 {TINY}"
    ),
    WritingCommand("run-workers", "run {sample}/bundle {material}/frames -o out --workers 2 --force"),
    WritingCommand(
        "build", "build node.onnx --target tensorrt-rtx --keep-model kept.onnx", ("node.onnx",), needs=(BINDINGS,)
    ),
)
"""A few seconds each, so that one of two signals with the same consequence must do."""
LONG = (
    WritingCommand("run-helpers", "run {sample}/bundle {material}/frames -o out --helpers 2 --force"),
    WritingCommand(
        "convert-sample",
        "convert {sample}/model.pth --config {sample}/model.toml --motion-anchors {sample}/anchors.npy -o out --force",
    ),
    WritingCommand("rewrite-sample", "rewrite {sample}/bundle -o n.onnx"),
    WritingCommand("build-sample", "build {sample}/bundle --target tensorrt-rtx -o bundle.engine", needs=(BINDINGS,)),
    WritingCommand("demo", "demo -o out --force"),
)
"""With processes beside, and on the whole network, reduced in size: hours."""
COMMANDS = (*QUICK, *SLOW, *(LONG if os.environ.get("UNIAD_ALL_FAULTS") else ()))
PLUGIN = """
from tests.toolkit.conftest import ODOMETRY, PLANNER
from toolkit.hookspecs import hookimpl

@hookimpl
def uniad_submodules():
    return ODOMETRY, PLANNER
"""


def make_material(folder: Path, sample: Path) -> None:
    """Write what the commands need besides the sample."""
    detector = {
        "pts_bbox_head.query_embedding.weight": torch.randn(900, 512),
        "pts_bbox_head.transformer.reference_points.weight": torch.randn(3, 256),
        "pts_bbox_head.transformer.reference_points.bias": torch.randn(3),
    }
    torch.save({"state_dict": detector}, folder / "detector.pth")
    torch.save({"state_dict": Network(join((ODOMETRY, PLANNER), ModelConfig())).weights()}, folder / "tiny.pth")
    (folder / "tiny.py").write_text(PLUGIN)
    model = onnx.load(write_model(folder / "node.onnx", CASES["Rotate"]))
    model.functions.append(ROTATE.function(CASES["Rotate"].attributes))
    onnx.save(model, folder / "node.onnx")
    for number in range(2):
        write_frame(replace(make_frame(number), scene=f"scene{number}"), folder / "frames")
    assert run(["run", str(sample / "bundle"), str(folder / "frames"), "-o", str(folder / "results")]) == 0
    (folder / "judging.py").write_text("from tests.evaluation.judging_plugin import uniad_frame_sources, uniad_metrics")
    write_results(folder / "judged")
    for _ in synthesize(folder / "drive", DriveSettings(scenes=1, keyframes=1, image_scale=0.05)):
        pass
