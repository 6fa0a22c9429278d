"""A tiny network of made-up submodules in which every feature of the toolkit occurs.

`odometry` measures how the vehicle moved since the previous frame: by a custom op, a frame input that returns as state
and a state of its own. `planner` goes on like that, and turns on command.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from custom_ops.inverse.op import INVERSE, inverse
from tests.session_cache import SessionCache
from toolkit.bundle import Bundle, SubmoduleRecord
from toolkit.config.model import BevConfig, ImageConfig, ModelConfig, PlanningConfig, TrackingConfig
from toolkit.conversion.convert import convert
from toolkit.hookspecs import hookimpl
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.specs import Role, StateSpec, Submodule, TensorSpec, Tolerance, frame_input
from toolkit.wiring import NetworkGraph, join

torch.set_num_threads(1)

MOVED = TensorSpec("moved", (3,), "float32", "motion since the previous frame, metres, LiDAR frame")


class Odometry(nn.Module):
    """Motion since the previous frame, corrected by a learned 3x3 matrix, and the distance driven in this scene."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.odometer = nn.Linear(3, 3, bias=False)
        nn.init.eye_(self.odometer.weight)

    def forward(
        self, rotation: Tensor, translation: Tensor, use_previous: Tensor, prev_translation: Tensor, prev_driven: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tensors as in `ODOMETRY`; nothing has moved at the start of a scene."""
        moved = self.odometer((translation - prev_translation) @ inverse(rotation))
        moved = torch.where(use_previous > 0, moved, 0)
        driven = torch.where(use_previous > 0, prev_driven, 0)
        return moved, driven + torch.linalg.vector_norm(moved)


class Planner(nn.Module):
    """Repeats the last motion, with a learned deviation for each command."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.steps = config.planning.steps
        self.planner = nn.Embedding(config.planning.commands, 2)
        nn.init.zeros_(self.planner.weight)

    def forward(self, moved: Tensor, command: Tensor) -> Tensor:
        """Tensors as in `PLANNER`."""
        steps = torch.arange(1.0, self.steps + 1).unsqueeze(1)
        plan: Tensor = steps * (moved[:2] + self.planner(command))
        return plan


ODOMETRY = Submodule(
    name="odometry",
    checkpoint_prefixes=("odometer.",),
    inputs=(
        frame_input("l2g_rotation"),
        frame_input("l2g_translation"),
        frame_input("use_previous"),
        TensorSpec("prev_l2g_translation", (3,), "float32", "translation of the previous frame, metres"),
        TensorSpec("prev_driven", (1,), "float32", "distance up to the previous frame, metres"),
    ),
    outputs=(MOVED, TensorSpec("driven", (1,), "float32", "distance driven in this scene, metres")),
    build=Odometry,
    results=("driven",),
    states=(StateSpec("prev_l2g_translation", "l2g_translation"), StateSpec("prev_driven", "driven")),
)

PLANNER = Submodule(
    name="planner",
    checkpoint_prefixes=("planner.",),
    inputs=("moved", "command"),
    outputs=(
        TensorSpec(
            "plan",
            ("plan_steps", 2),
            "float32",
            "planned positions, metres, LiDAR frame",
            tolerance=Tolerance(norm=1e-3, largest=1e-3),
            role=Role.PLAN,
        ),
    ),
    build=Planner,
    results=("plan",),
)


def record(path: Path, graph: NetworkGraph) -> Bundle:
    """A bundle that describes a network, without files."""
    return Bundle.of_graph(
        path,
        graph,
        submodules=tuple(
            SubmoduleRecord(s.name, "tests", None, tuple(spec.name for spec in s.outputs)) for s in graph.submodules
        ),
        custom_ops=(),
        files={},
        sha256={},
        provenance={},
        parity={},
    )


@pytest.fixture(scope="session")
def odometry() -> Submodule:
    """Frame inputs and states -> `moved` (a wire) and `driven` (a result and a state)."""
    return ODOMETRY


@pytest.fixture(scope="session")
def planner() -> Submodule:
    """`moved` and the command -> `plan` (a result)."""
    return PLANNER


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    """A plan of two steps."""
    return ModelConfig(planning=PlanningConfig(steps=2))


@pytest.fixture(scope="session")
def graph(config: ModelConfig) -> NetworkGraph:
    """`odometry` and `planner`, joined."""
    return join((ODOMETRY, PLANNER), config)


@pytest.fixture
def network(graph: NetworkGraph) -> Network:
    """The eager network: it measures exactly and plans straight on."""
    return Network(graph)


@pytest.fixture
def bundle(graph: NetworkGraph, tmp_path: Path) -> Bundle:
    """The record of the tiny network; no file is written."""
    return record(tmp_path, graph)


@pytest.fixture(scope="session")
def tiny_plugins(odometry: Submodule, planner: Submodule) -> PluginManager:
    """A plugin manager that knows of all submodules and ops those of the tiny network only."""

    @hookimpl
    def uniad_submodules() -> Sequence[Submodule]:
        return (odometry, planner)

    @hookimpl
    def uniad_custom_ops() -> Sequence[Any]:
        return (INVERSE,)

    plugin = ModuleType("tiny")
    plugin.__dict__.update(uniad_submodules=uniad_submodules, uniad_custom_ops=uniad_custom_ops)
    manager = PluginManager.load(builtin=("toolkit.engines.plugin", "toolkit.data.plugin"))
    manager.register(plugin, "tiny")
    return manager


@pytest.fixture(scope="session")
def converted(graph: NetworkGraph, tiny_plugins: PluginManager, conversions: SessionCache) -> Path:
    """A bundle of the tiny network on disk."""

    def make(folder: Path) -> None:
        torch.save({"state_dict": Network(graph).weights(), "meta": {}}, folder / "tiny.pth")
        convert(folder / "tiny.pth", folder / "bundle", tiny_plugins, config=graph.config)

    return conversions.once("tiny", make) / "bundle"


@pytest.fixture(scope="session")
def official_bundle() -> Bundle:
    """The record of the toolkit's own network at toy size: 5 track rows, 4 reports, a BEV of 2 x 3 cells."""
    config = ModelConfig(
        embed=4,
        image=ImageConfig(source_width=32, source_height=32, scale=1),
        bev=BevConfig(height=2, width=3),
        tracking=TrackingConfig(queries=3, track_capacity=5, agent_capacity=2, max_reports=4),
    )
    return record(Path(), join(PluginManager.load().submodules(), config))


@pytest.fixture
def drive() -> list[dict[str, np.ndarray]]:
    """Four frames, each 3 m forward and 4 m to the side of the one before; the third begins a new scene."""
    return [
        {
            "l2g_rotation": np.eye(3, dtype=np.float32),
            "l2g_translation": np.array([3 * number, 4 * number, 0], np.float32),
            "command": np.array([2], np.int32),
            "use_previous": np.array([number not in (0, 2)], np.int32),
        }
        for number in range(4)
    ]
