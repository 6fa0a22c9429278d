"""`train --graphs` on a GPU: CUDA graphs compute what calling does, and draw their dropout anew each time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")

from benchmarks.training import Drive, new_network
from plugins.tracking import matching
from tests.training.test_compilation import MODEL
from tests.training.test_train_command import arguments as arguments
from tests.training.test_train_command import drive as drive
from tests.training.test_update import require_same
from toolkit.cli.main import run
from toolkit.training.clip_model import ClipModel, total, without_randomness
from toolkit.training.config import TrainingConfig
from toolkit.training.graphs import CudaRecorder, GraphCalls
from toolkit.training.packing import pack
from toolkit.weights.checkpoint import load_checkpoint

CUDA = torch.device("cuda")
ROUNDING = 1e-3
"""Of FP32, through all layers and back, with sums in another order; of the norm of all gradients, and of each loss."""


@pytest.mark.parametrize("stage", [1, 2])
@torch.enable_grad()
def test_losses_and_gradients_are_those_without(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clip by clip; the second and third replay what was recorded of the first, whose tracks are carried on."""
    for bound in ("SURVIVING_IOU", "ACTIVE_IOU"):  # random weights overlap hardly anything
        monkeypatch.setattr(matching, bound, -1.0)
    training = TrainingConfig(stage=stage, queue_length=3)
    clips = [pack(each).to(CUDA) for each in Drive.made(MODEL, training).clips[:2]]
    built = new_network(MODEL, training)
    model = ClipModel(built.network, stage, without_randomness(built.network, built.options)).to(CUDA)
    model.train()

    def computed(number: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        losses = model(clips[number])
        total(losses).backward()
        gradients = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
        model.zero_grad()
        return {name: loss.detach().clone() for name, loss in losses.items()}, gradients

    expected = [computed(0), computed(1)]
    model.calls = calls = GraphCalls(CudaRecorder())
    for number in (0, 1, 0):
        losses, gradients = computed(number)
        wanted_losses, wanted = expected[number]
        assert losses.keys() == wanted_losses.keys()
        assert gradients.keys() == wanted.keys()
        for name, loss in wanted_losses.items():
            assert (losses[name] - loss).abs().max().item() <= ROUNDING * max(1.0, loss.abs().max().item()), name
        apart = torch.stack([(gradients[name] - wanted[name]).norm() for name in wanted]).norm()
        assert apart <= ROUNDING * torch.stack([each.norm() for each in wanted.values()]).norm()
    assert calls.count >= 8


def test_dropout_is_drawn_anew_by_every_replay() -> None:
    """And what is dropped forward is dropped backward."""
    layer, calls = torch.nn.Dropout(0.5), GraphCalls(CudaRecorder())
    x = torch.ones(1000, device=CUDA, requires_grad=True)
    drawn = []
    with torch.enable_grad():
        for _ in range(3):
            calls.begin()
            (dropped,) = calls(_dropped, layer, x)
            dropped.sum().backward()
            assert x.grad is not None
            assert torch.equal(x.grad, dropped)
            x.grad = None
            drawn.append(dropped.detach().clone())
    assert calls.count == 1
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert 300 < (drawn[one] != drawn[other]).sum() < 700


def test_steps_of_the_optimiser_are_those_without() -> None:
    require_same(CudaRecorder().capture, "cuda")


def test_the_command_comes_to_the_weights_that_it_comes_to_without(arguments: list[str], tmp_path: Path) -> None:
    """Stopped once, and resumed."""
    still = [*arguments, "--set", "distort_pictures=False", "--set", "dropout=0"]
    for words in (["--steps", "3"], ["--resume"]):
        assert run([*still, "--graphs", *words]) == 0
    still[still.index("-o") + 1] = str(tmp_path / "without")
    assert run(still) == 0
    found, wanted = (load_checkpoint(tmp_path / name / "epoch_2.pth").state_dict for name in ("run", "without"))
    for name, value in wanted.items():
        assert (found[name] - value).abs().max().item() <= ROUNDING * max(1.0, value.abs().max().item()), name


def _dropped(layer: torch.nn.Module, x: Tensor) -> tuple[Tensor]:
    return (layer(x),)
