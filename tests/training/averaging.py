"""Processes of `torchrun` that train the smallest network, each step of the optimiser as if it were a graph.

    torchrun … -m tests.training.averaging FOLDER

The first leaves checkpoints in the folder, and in `layers.pth` two layers after steps in which one process has
gradients for the first layer alone.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from tests.training.replaying import capture_on_the_cpu
from tests.training.test_run import CONFIG, MadeClips, driver
from toolkit.training.config import TrainingConfig
from toolkit.training.optimiser import make_optimiser
from toolkit.training.processes import TrainingPrecision, make_fabric
from toolkit.training.run import Run, train
from toolkit.training.update import GraphedUpdate, MakeUpdate

STEPS = 3
LAYERS_FILE = "layers.pth"


def stepped(make_update: MakeUpdate, ranks: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Two layers after steps from the mean of these processes' gradients."""
    torch.manual_seed(0)
    layers = nn.ModuleDict({"both": nn.Linear(2, 3), "one": nn.Linear(2, 3)})
    update = make_update(make_optimiser(layers.named_parameters(), TrainingConfig()), 35.0)
    for number in range(STEPS):
        for rank in ranks:
            x = torch.full((1, 2), 1.0 + rank + number)
            loss = layers["both"](x).square().sum() + (layers["one"](x).square().sum() if rank == 0 else 0)
            (loss / len(ranks)).backward()
        update()
    return layers.state_dict()


def main(folder: Path) -> None:
    fabric = make_fabric(TrainingPrecision.FP32, "cpu")
    make_update = partial(GraphedUpdate, capture=capture_on_the_cpu)
    model, config = driver(dropout=False), replace(CONFIG, epochs=1)
    train(Run(folder, config, make_update=make_update), model, MadeClips(), fabric)
    with torch.enable_grad():
        weights = stepped(make_update, (fabric.global_rank,))
    if fabric.global_rank == 0:
        torch.save(weights, folder / LAYERS_FILE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
