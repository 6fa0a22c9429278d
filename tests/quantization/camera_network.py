"""A network of two made-up submodules that sees, remembers and plans, to be quantized in seconds.

`eyes` convolves the pictures and mixes what it sees with its memory, the state. `driver` plans and marks occupied
cells; one channel that it reads is a thousand times as large as the others, and its weights make up for that: in FP32
it does not matter, but a range for all channels leaves nothing of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from tests.toolkit.toy_bundle import toy_frame
from toolkit.config.model import ImageConfig, ModelConfig, PlanningConfig
from toolkit.conversion.convert import convert
from toolkit.data.frame_folder import write_frame
from toolkit.hookspecs import hookimpl
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.results import FrameResult, OccupancyResult, PlanResult
from toolkit.specs import Interpretation, StateSpec, Submodule, Tensors, TensorSpec, frame_input
from toolkit.wiring import join

CONFIG = ModelConfig(image=ImageConfig(source_width=64, source_height=64, scale=0.5), planning=PlanningConfig(steps=2))
WIDTH, SIDE = 32, 8
LOUD, LENGTH = 1000.0, 30.0


class Eyes(nn.Module):
    """Pictures [cameras, 3, 32, 32] and the memory of the frame before to features and memory [1, 32, 8, 8]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.eyes = nn.Sequential(nn.Conv2d(3, WIDTH, 3, 2, 1), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), nn.ReLU())

    def forward(self, image: Tensor, memory: Tensor, use_previous: Tensor) -> Tensor:
        """A scene begins without memory."""
        seen: Tensor = self.eyes(image).mean(0, keepdim=True)
        return seen + 0.5 * torch.where(use_previous > 0, memory, 0)


class Driver(nn.Module):
    """Memory to a plan [2, 2] of some metres and cells [8, 8], of which every second is occupied whatever is seen."""

    loudness: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.first, self.route = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 4)
        self.cells = nn.Linear(WIDTH, 1)
        loudness = torch.ones(WIDTH)
        loudness[0] = LOUD
        self.register_buffer("loudness", loudness)
        self.first.weight.data[:, 0] /= LOUD

    def forward(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Tensors as in `DRIVER`."""
        rows = memory[0].permute(1, 2, 0).reshape(-1, WIDTH)
        hidden = torch.relu(self.first(rows * self.loudness))
        route = LENGTH * self.route(hidden).mean(0).reshape(2, 2)
        scores = self.cells(hidden).reshape(SIDE, SIDE)
        return route, (scores + torch.tensor([10.0, -10.0] * (SIDE // 2)) > 0).int()


def interpret(result: FrameResult, tensors: Tensors, config: ModelConfig) -> FrameResult:
    """The plan and the occupied cells."""
    cells = tensors["marks"][None] > 0
    size = (-4.0, 4.0)
    occupancy = OccupancyResult(cells, cells.astype(np.float32), 0.5, size, size)
    return replace(result, plan=PlanResult(tensors["route"], 0.5), occupancy=occupancy)


MEMORY = TensorSpec("memory", (1, WIDTH, SIDE, SIDE), "float32", "what was seen, the longer ago the fainter")
EYES = Submodule(
    name="eyes",
    checkpoint_prefixes=("eyes.",),
    inputs=(frame_input("image"), "prev_memory", frame_input("use_previous")),
    outputs=(MEMORY,),
    build=Eyes,
    results=("memory",),
    states=(StateSpec("prev_memory", "memory"),),
)
DRIVER = Submodule(
    name="driver",
    checkpoint_prefixes=("first.", "route.", "cells.", "loudness"),
    inputs=("memory",),
    outputs=(
        TensorSpec("route", (2, 2), "float32", "planned positions, metres"),
        TensorSpec("marks", (SIDE, SIDE), "int32", "1 where something is"),
    ),
    build=Driver,
    results=("route", "marks"),
    interpretation=Interpretation(needs=("route", "marks"), add=interpret),
)


def camera_plugins() -> PluginManager:
    """A plugin manager that knows these submodules alone."""

    @hookimpl
    def uniad_submodules() -> Sequence[Submodule]:
        return (EYES, DRIVER)

    plugin = ModuleType("camera")
    plugin.__dict__.update(uniad_submodules=uniad_submodules)
    manager = PluginManager.load(builtin=("toolkit.engines.plugin", "toolkit.data.plugin"))
    manager.register(plugin, "camera")
    return manager


def make_bundle(folder: Path) -> None:
    """The converted network, with random weights that are always the same, as `folder/bundle`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(join((EYES, DRIVER), CONFIG))
    torch.save({"state_dict": network.weights(), "meta": {}}, folder / "camera.pth")
    convert(folder / "camera.pth", folder / "bundle", camera_plugins(), config=CONFIG)


def make_frames(folder: Path, scenes: Sequence[int] = (5, 5)) -> Path:
    """A frame folder with so many frames in each scene, no two of them alike."""
    folder.mkdir()
    names = [f"scene{scene}" for scene, frames in enumerate(scenes) for _ in range(frames)]
    for number, scene in enumerate(names):
        write_frame(replace(toy_frame(number, scene), name=f"frame{number:03}"), folder)
    return folder
