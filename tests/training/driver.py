"""A plugin with a submodule that learns where the ego goes: the smallest network that can be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from toolkit.config.model import ModelConfig
from toolkit.data.ground_truth import AnnotatedScene, Gap, GroundTruth
from toolkit.data.standpoint import seen_from
from toolkit.evaluation.metric import Figure, JudgedFrame, Measured, Metric, Verdict
from toolkit.hookspecs import hookimpl
from toolkit.nn.losses import averaged
from toolkit.specs import Submodule, TensorSpec
from toolkit.training.spec import FrameTruth, Moment, Option, Step, Training

FACTS = 18
"""Entries of the vector `can_bus`."""


class Driver(nn.Module):
    """The ego's next step, from what its bus says, and how bright the picture is."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.driver = nn.Linear(FACTS + 1, 2)
        self.dropout = nn.Dropout(0.1)
        self.spare = nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor, can_bus: Tensor) -> Tensor:
        facts = torch.cat((can_bus / 1000, image.mean().view(1)))
        driven: Tensor = self.driver(self.dropout(facts))
        return driven


def step(module: nn.Module, moment: Moment) -> Step:
    """Losses in every frame; what it did before is its state."""
    assert isinstance(module, Driver)
    module.dropout.p = moment.options["dropout"]
    (driven,) = moment.calls(drive, module, moment.tensors["image"], moment.tensors["can_bus"])
    before = driven if moment.state is None else moment.state["driven"]
    distance = (driven - moment.truth["gt_step"]).abs().sum()
    name = f"driver.frame_{moment.index}"
    losses = {f"{name}_loss_step": averaged(distance, len(driven)), f"{name}_turn": (driven - before).norm()}
    if moment.options["broken"]:
        losses[f"{name}_loss_step"] = losses[f"{name}_loss_step"] / 0
    return Step({"driven": driven}, losses, {"driven": driven})


def drive(module: nn.Module, *inputs: Tensor) -> tuple[Tensor]:
    """What `train --graphs` makes a graph of."""
    return (module(*inputs),)


def truth(truth: GroundTruth, config: ModelConfig) -> FrameTruth:
    return next_step


def next_step(scene: AnnotatedScene, index: int, *, last: bool) -> Mapping[str, NDArray[Any]] | Gap:
    """Where the LiDAR is at the next key frame."""
    if index + 1 == len(scene.frames):
        return {"gt_step": np.zeros(2, np.float32)}
    moved = seen_from(scene.frames[index], scene.frames[index + 1], np.zeros(3))
    return {"gt_step": moved[:2].astype(np.float32)}


def freeze(module: nn.Module, stage: int, options: Mapping[str, Option]) -> None:
    """The spare parameter is not trained."""
    assert isinstance(module, Driver)
    module.spare.requires_grad_(False)


def compiled(module: nn.Module) -> list[nn.Module]:
    """All of it."""
    return [module]


def training() -> Training:
    return Training(step, truth, freeze, compiled=compiled, options={"broken": False, "dropout": 0.1})


DRIVER = Submodule(
    name="driver",
    checkpoint_prefixes=("driver.", "spare"),
    inputs=("image", "can_bus"),
    outputs=(TensorSpec("driven", (2,), "float32", "where the ego is half a second later, metres, LiDAR frame"),),
    build=Driver,
    results=("driven",),
    training=training,
)


def measure(frame: JudgedFrame) -> float:
    """How far the step is off, in metres."""
    moved = next_step(frame.scene, frame.index, last=True)
    assert not isinstance(moved, Gap)
    return float(np.linalg.norm(frame.result.further["driven"] - moved["gt_step"]))


def compute(measured: Measured, folder: Path) -> Verdict:
    error = float(np.mean(measured.values))
    return Verdict((Figure("error", error, "m", "tests", "mean over frames", higher_is_better=False),))


@hookimpl
def uniad_metrics() -> Sequence[Metric]:
    """How well it is known where the ego goes."""
    return (Metric("driver", "the next step", (), ("poses",), lambda truth: measure, compute),)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """The driver."""
    return (DRIVER,)
