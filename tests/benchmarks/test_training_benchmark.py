"""The benchmark of a training step, on the CPU and a reduced network: every part of a step has its time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("lightning_fabric", reason="Lightning Fabric is not installed")
pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")

from benchmarks import training
from tests.corpus.sample import CONFIG
from toolkit.config.file import to_toml
from toolkit.training.processes import TrainingPrecision

pytestmark = [pytest.mark.thorough, pytest.mark.slow]

MODEL = replace(
    CONFIG,
    image=replace(CONFIG.image, source_width=160, source_height=90),
    bev=replace(CONFIG.bev, height=16, width=16),  # occupancy's normalisation over cells needs more than one
)


def test_steps_and_their_parts_are_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, figures = tmp_path / "tiny.toml", tmp_path / "figures.json"
    config.write_text(to_toml(MODEL) + "\n[training]\nstage = 2\nqueue_length = 2\n")
    monkeypatch.setattr(training, "WARM_UP", 0)
    training.main([config], steps=1, precision=[TrainingPrecision.FP32], device="cpu", output=figures)
    [measured] = json.loads(figures.read_text())
    assert (measured["stage"], measured["precision"], len(measured["seconds"])) == (2, "fp32", 1)
    parts = measured["parts"]
    assert {"image_encoder, without gradient", "tracking", "planning", "backward", "optimiser"} <= parts[
        "seconds"
    ].keys()
    assert all(seconds > 0 for seconds in parts["seconds"].values())
    assert parts["within"].keys() <= parts["seconds"].keys()
    assert "A training step, CPU" in capsys.readouterr().out
