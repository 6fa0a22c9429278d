"""From a detector's weights to an engine: both stages of the training on a synthetic drive, every command in turn."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric", reason="Lightning Fabric is not installed")
pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")

from tests.corpus.sample import CONFIG
from toolkit.cli.main import run
from toolkit.config.file import to_toml
from toolkit.demo.pseudo_weights import pseudo_motion_anchors
from toolkit.engines.tensorrt.rtx import BINDINGS, LIBRARIES
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.synthetic.dataset import DriveSettings, synthesize
from toolkit.wiring import join

pytestmark = [
    pytest.mark.converts,
    pytest.mark.skipif(
        any(importlib.util.find_spec(package) is None for package in (BINDINGS, LIBRARIES)),
        reason="TensorRT for RTX is not installed; install it with: pip install 'uniad-toolkit[tensorrt-rtx]'",
    ),
]

MODEL = replace(
    CONFIG,
    image=replace(CONFIG.image, source_width=160, source_height=90),
    bev=replace(CONFIG.bev, height=16, width=16),  # occupancy's normalisation over cells needs more than one
)
TRAINING = """
[training]
stage = {stage}
queue_length = {queue}
epochs = 1
warmup_steps = 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drive, configs of both stages, anchors, and the weights of a detector."""
    folder = tmp_path_factory.mktemp("story")
    list(synthesize(folder / "drive", DriveSettings(scenes=1, keyframes=5, image_scale=0.1)))
    for stage, queue in ((1, 3), (2, 2)):
        (folder / f"stage{stage}.toml").write_text(to_toml(MODEL) + TRAINING.format(stage=stage, queue=queue))
    np.save(folder / "anchors.npy", pseudo_motion_anchors(MODEL))
    weights = Network(join(PluginManager.load().submodules(), MODEL)).weights()
    queries = MODEL.tracking.queries - 1
    detector = {key: value for key, value in weights.items() if key.startswith(("img_", "pts_bbox_head."))}
    detector |= {
        "pts_bbox_head.query_embedding.weight": torch.randn(queries, 2 * MODEL.embed),
        "pts_bbox_head.transformer.reference_points.weight": torch.randn(3, MODEL.embed),
        "pts_bbox_head.transformer.reference_points.bias": torch.randn(3),
    }
    torch.save({"state_dict": detector}, folder / "detector.pth")
    return folder


def test_both_stages(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    data, few = "nuscenes:drive", ["--workers", "0", "--steps", "2"]
    anchors = ["--motion-anchors", "anchors.npy"]
    stage1 = ["train", "stage1.toml", "--data", data, "-o", "stage1", "--init", "detector.pth", *few]
    assert run([*stage1]) == 0
    losses = [json.loads(line)["losses"] for line in Path("stage1/log.jsonl").read_text().splitlines()]
    assert len(losses) == 2
    assert {"track.frame_2_loss_cls_0", "map.loss_mask_stuff"} <= losses[0].keys()
    assert run([*stage1[:-1], "1", "--force", "--precision", "bf16"]) == 0
    stage2 = ["train", "stage2.toml", "--data", data, "-o", "stage2", "--init", "stage1/stopped.pth", *anchors, *few]
    assert run([*stage2[:-1], "1", "--precision", "bf16"]) == 0
    assert run([*stage2, "--force", "--evaluate", data]) == 0
    losses = [json.loads(line)["losses"] for line in Path("stage2/log.jsonl").read_text().splitlines()]
    assert {"motion.loss_traj", "occ.loss_mask", "planning.loss_ade"} <= losses[0].keys()
    figures = json.loads(Path("stage2/evaluation_stopped/metrics.json").read_text())
    assert {metric["name"] for metric in figures["metrics"]} >= {"planning", "tracking", "map"}
    assert run(["convert", "stage2/stopped.pth", "--config", "stage2.toml", *anchors, "-o", "bundle"]) == 0
    assert run(["run", "bundle", data, "-o", "results"]) == 0
    assert run(["evaluate", "bundle", "--data", data, "-o", "evaluation", "--no-pictures"]) == 0
    build = ["build", "bundle", "--target", "tensorrt-rtx", "--compute-capability", "8.9", "--opt-level", "0"]
    assert run([*build, "-o", "model.engine"]) == 0
    assert Path("model.engine").stat().st_size > 0
    assert capsys.readouterr().err == ""
