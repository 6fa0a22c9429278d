"""The benchmark of a training step, on the CPU and a reduced network: every part of a step has its time."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("lightning_fabric", reason="Lightning Fabric is not installed")
pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")

import torch

from benchmarks import training
from benchmarks.training_operators import OperatorCount
from tests.corpus.sample import CONFIG
from toolkit.config.file import to_toml
from toolkit.training.compilation import compile_parts
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


@pytest.mark.full
def test_steps_of_a_compiled_network_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without hooks in what is compiled; the backend is one that is quick."""
    config, figures = tmp_path / "tiny.toml", tmp_path / "figures.json"
    config.write_text(to_toml(MODEL) + "\n[training]\nstage = 1\nqueue_length = 2\n")
    monkeypatch.setattr(training, "WARM_UP", 1)
    monkeypatch.setattr(training, "compile_parts", partial(compile_parts, backend="aot_eager"))
    training.main([config], steps=1, precision=[TrainingPrecision.FP32], device="cpu", output=figures, compiled=True)
    [measured] = json.loads(figures.read_text())
    assert (measured["compiled"], len(measured["first"]), len(measured["seconds"])) == (True, 1, 1)
    assert measured["parts"]["seconds"].keys() >= {"tracking", "backward"}
    assert measured["parts"]["within"] == {}


def test_operators_of_every_part_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(to_toml(MODEL) + "\n[training]\nstage = 2\nqueue_length = 2\n")
    training.main([config], stage=2, operators=True)
    rows = [line.strip("│ ").split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    counts = {name.strip(): [int(number.replace(",", "")) for number in numbers] for name, *numbers in rows}
    forward, backward, waits, _ = counts["tracking"]
    assert forward > 100
    assert backward > 100
    assert waits >= 2 * 3  # of two frames each: ids, costs, and what the last layer has seen
    assert counts["image_encoder, without gradient"][1] == 0
    assert counts["all"] == [sum(numbers) for numbers in zip(*(counts[n] for n in counts if n != "all"), strict=True)]


def test_operators_are_counted_where_a_gpu_would_run_them() -> None:
    """Not among what has come to the host; that, and a number that is looked at, is waited for."""
    count = OperatorCount()
    x = torch.ones(3, requires_grad=True)
    with torch.enable_grad(), count:
        with count.of("forward"):
            y = (x * x).sum()
            count.mark([y])
            (x.detach().cpu() + 1).nonzero()
            y.item()
        with count.of("backward"):
            y.backward()
    assert (count.parts["forward"].forward, count.parts["forward"].waits) == (3, 2)
    assert count.parts["forward"].names["aten::nonzero"] == 0
    assert count.parts["forward"].backward > 0
