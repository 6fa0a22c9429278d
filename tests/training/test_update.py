"""What steps the optimiser, as a graph and without: weights, the optimiser's state and the norm are the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training.replaying import capture_on_the_cpu
from toolkit.training.config import TrainingConfig
from toolkit.training.graphs import Capture
from toolkit.training.optimiser import make_optimiser, set_rates
from toolkit.training.update import GraphedUpdate, MakeUpdate, PlainUpdate

MOST = 0.5


def trained(make_update: MakeUpdate, device: str = "cpu") -> tuple[dict[str, Tensor], list[float], Mapping[str, Any]]:
    """Weights, norms and the optimiser's state after six steps, in which not all parameters have gradients."""
    torch.manual_seed(0)
    layers = nn.ModuleDict({"first": nn.Linear(3, 4), "img_backbone": nn.Linear(4, 5), "idle": nn.Linear(2, 2)})
    layers.to(device)
    optimiser = make_optimiser(layers.named_parameters(), TrainingConfig())
    update, norms = make_update(optimiser, MOST), list[float]()
    for number in range(6):
        set_rates(optimiser, 1 / (number + 1))
        with torch.enable_grad():
            x = layers["first"](torch.randn(7, 3).to(device))
            (layers["img_backbone"](x) if number % 2 else x).square().sum().backward()
        norms.append(float(update()))
        assert all(each.grad is None for each in layers.parameters())
    return layers.state_dict(), norms, optimiser.state_dict()


def require_same(capture: Capture, device: str = "cpu") -> None:
    """To the rounding of a learning rate to FP32; a recorded set of parameters steps only those."""
    made: list[GraphedUpdate] = []

    def graphed(optimiser: torch.optim.Optimizer, most: float) -> GraphedUpdate:
        made.append(GraphedUpdate(optimiser, most, capture))
        return made[-1]

    weights, norms, state = trained(PlainUpdate, device)
    found_weights, found_norms, found_state = trained(graphed, device)
    assert made[0].count == 2
    assert found_norms == pytest.approx(norms, rel=1e-6)
    for name, value in weights.items():
        torch.testing.assert_close(found_weights[name], value, rtol=1e-6, atol=1e-8)
    assert found_state["param_groups"] == state["param_groups"]
    torch.testing.assert_close(found_state["state"], state["state"], rtol=1e-6, atol=1e-8)


def test_graphed_steps_are_those_without() -> None:
    require_same(capture_on_the_cpu)


def test_processes_step_from_the_mean_of_their_gradients(tmp_path: Path) -> None:
    """As one does that adds those of two clips; also where only one process has any for a parameter."""
    pytest.importorskip("lightning_fabric", reason="Lightning Fabric is not installed")
    from tests.training.averaging import LAYERS_FILE, stepped
    from tests.training.test_run import CONFIG, MadeClips, driver
    from toolkit.training.processes import TrainingPrecision, make_fabric
    from toolkit.training.run import Run, train
    from toolkit.weights.checkpoint import load_checkpoint

    folders = [tmp_path / name for name in ("two", "one")]
    for folder in folders:
        folder.mkdir()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [*torchrun, "-m", "tests.training.averaging", str(folders[0])]
    ran = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    config = replace(CONFIG, epochs=1, accumulate=2)
    train(Run(folders[1], config), driver(dropout=False), MadeClips(), make_fabric(TrainingPrecision.FP32, "cpu"))
    two, one = (load_checkpoint(folder / "epoch_1.pth").state_dict for folder in folders)
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)
    with torch.enable_grad():
        wanted = stepped(PlainUpdate, (0, 1))
    torch.testing.assert_close(torch.load(folders[0] / LAYERS_FILE), wanted, rtol=1e-5, atol=1e-6)
