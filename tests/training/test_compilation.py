"""`train --compile`: what is computed stays the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning_fabric", reason="Lightning Fabric is not installed")
pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")

from torch._dynamo.utils import counters

from benchmarks.training import Drive, new_network
from tests.corpus.sample import CONFIG
from tests.training.test_train_command import arguments as arguments
from tests.training.test_train_command import drive as drive
from toolkit.cli.main import run
from toolkit.config.model import ModelConfig
from toolkit.training.clip import Clip, ClipFrame
from toolkit.training.clip_losses import default_type
from toolkit.training.clip_model import ClipModel, total, without_randomness
from toolkit.training.compilation import compile_parts
from toolkit.training.config import TrainingConfig
from toolkit.training.run_checkpoint import load_run_checkpoint

pytestmark = pytest.mark.slow
MODEL: ModelConfig = replace(
    CONFIG,
    image=replace(CONFIG.image, source_width=80, source_height=45),
    bev=replace(CONFIG.bev, height=16, width=16),  # occupancy's normalisation over cells needs more than one
)


def doubled(clip: Clip) -> Clip:
    """The clip in float64."""
    frames = (
        {name: value.double() if value.is_floating_point() else value for name, value in frame.inputs.items()}
        for frame in clip.frames
    )
    return Clip(clip.name, tuple(ClipFrame(new, old.truth) for new, old in zip(frames, clip.frames, strict=True)))


def computed(training: TrainingConfig, clip: Clip, *, compiled: bool) -> dict[str, torch.Tensor]:
    """Losses and gradients of the network with the same random weights each time."""
    with default_type(torch.float64), torch.enable_grad():
        model = new_network(MODEL, training)
        model = ClipModel(model.network, training.stage, without_randomness(model.network, model.options))
        if compiled:
            assert compile_parts(model, backend="aot_eager") > 5
        losses = model(clip)
        total(losses).backward()
    gradients = {f"gradient of {name}": each.grad for name, each in model.named_parameters() if each.grad is not None}
    return {name: loss.detach() for name, loss in losses.items()} | gradients


@pytest.mark.thorough
@pytest.mark.parametrize("stage", [1, pytest.param(2, marks=pytest.mark.full)])
def test_losses_and_gradients_are_those_without(stage: int) -> None:
    """In float64 to rounding, the toolkit's own ops within; no part falls back to what is not compiled.

    Gradients of some biases are rounding alone, so they are held to the size of all.
    """
    training = TrainingConfig(stage=stage, queue_length=2)
    clip = doubled(Drive.made(MODEL, training).clips[0])
    expected = computed(training, clip, compiled=False)
    counters.clear()
    found = computed(training, clip, compiled=True)
    assert counters["stats"]["unique_graphs"] > 5
    assert not counters["graph_break"]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).abs().max().item() <= 1e-9 * max(1.0, value.abs().max().item()), name


def test_a_compiled_run_stops_and_goes_on_and_ends_where_one_that_is_not_does(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the compiler of the CPU; a run may go on with it, or without."""
    arguments += ["--set", "dropout=0"]  # which a compiler draws in another order
    assert run([*arguments, "--steps", "6"]) == 0
    plain = load_run_checkpoint(tmp_path / "run" / "stopped.pth")
    assert run([*arguments, "--compile", "--steps", "3", "--force"]) == 0
    assert "1 modules are compiled" in capsys.readouterr().out
    assert run([*arguments, "--compile", "--steps", "6", "--resume"]) == 0
    compiled = load_run_checkpoint(tmp_path / "run" / "stopped.pth")
    assert compiled.state_dict.keys() == plain.state_dict.keys()
    for name, value in plain.state_dict.items():
        torch.testing.assert_close(compiled.state_dict[name], value, rtol=1e-5, atol=1e-6)
    assert "compile" not in json.dumps(json.loads((tmp_path / "run" / "training.json").read_text()))


def test_a_compiler_that_fails_is_said_in_a_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(module: Any, inputs: Any) -> Any:
        raise FileNotFoundError("no g++ here")

    compile_module = torch.nn.Module.compile

    def compile_badly(module: torch.nn.Module, backend: str) -> None:
        compile_module(module, backend=broken)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_badly)
    torch._dynamo.reset()
    assert run([*arguments, "--compile"]) == 2
    error = capsys.readouterr().err
    assert "--compile: torch cannot compile the network here" in error
    assert "no g++ here" in error
    assert "Traceback" not in error


def test_it_is_not_for_quantized_networks(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*arguments, "--compile", "--quantize", "int8"]) == 2
    assert "--compile has not been tried with --quantize" in capsys.readouterr().err


def test_a_clip_is_compared_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--compile", "--graphs"):
        words = ["--clip", "a.npz", "--losses", str(tmp_path / "l.json"), option]
        assert run(["train", str(tmp_path / "a.toml"), *words]) == 2
        error = capsys.readouterr().err
        assert "--clip and --losses compute the network as it is; leave out --compile, --graphs and" in error


def test_graphs_need_a_gpu_and_are_not_for_what_is_compiled(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*arguments, "--graphs", "--device", "cpu"]) == 2
    assert "--graphs is of CUDA graphs, and there is no NVIDIA GPU here" in capsys.readouterr().err
    assert run([*arguments, "--graphs", "--compile"]) == 2
    assert "--compile has not been tried with --graphs" in capsys.readouterr().err
