"""The example of the documentation: a planner in one file that replaces the official one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from toolkit.config.model import ModelConfig
from toolkit.conversion.export import export_submodule
from toolkit.plugin.manager import PluginManager
from toolkit.specs import Submodule
from toolkit.weights.checkpoint import match_weights
from toolkit.wiring import NetworkGraph, join

EXAMPLE = Path(__file__).parents[3] / "docs/examples/straight_planner.py"
RIGHT, LEFT, STRAIGHT = range(3)


@pytest.fixture(scope="module")
def plugins() -> PluginManager:
    """The toolkit's own plugins and the example."""
    return PluginManager.load([EXAMPLE])


@pytest.fixture(scope="module")
def graph(plugins: PluginManager) -> NetworkGraph:
    """The whole network with the example."""
    return join(plugins.submodules(), ModelConfig())


@pytest.fixture(scope="module")
def planner(graph: NetworkGraph) -> Submodule:
    return next(s for s in graph.submodules if s.name == "straight_planner")


@pytest.fixture(scope="module")
def module(plugins: PluginManager, planner: Submodule) -> nn.Module:
    """The planner with the weights that its checkpoint filter adds."""
    module = planner.build(ModelConfig()).eval()
    module.load_state_dict(dict(plugins.filter_checkpoint({}, ModelConfig())))
    return module


def test_it_takes_the_official_planners_place(plugins: PluginManager, graph: NetworkGraph) -> None:
    names = [s.name for s in graph.submodules]
    assert "planning" not in names
    assert graph.producer("plan") == "straight_planner"
    assert plugins.origin(graph.submodules[names.index("straight_planner")]) == str(EXAMPLE)


def test_interface_of_the_network_stays_the_same(graph: NetworkGraph) -> None:
    official = join(PluginManager.load().submodules(), ModelConfig())
    assert [s.name for s in graph.inputs] == [s.name for s in official.inputs]
    assert {s.name for s in graph.results} == {s.name for s in official.results}


def test_official_checkpoint_fits(plugins: PluginManager, planner: Submodule) -> None:
    """The entries of the official planner are left out, those of others kept, and the new one is added."""
    other = {"seg_head.weight": torch.ones(1)}
    filtered = plugins.filter_checkpoint(other | {"planning_head.weight": torch.ones(1)}, ModelConfig())
    match_weights(planner.build(ModelConfig()).state_dict() | other, filtered)


def test_trained_weights_win(plugins: PluginManager) -> None:
    trained = {"straight_planner.weight": torch.ones(3, 2)}
    assert (
        plugins.filter_checkpoint(trained, ModelConfig())["straight_planner.weight"]
        is trained["straight_planner.weight"]
    )


def forecast(*modes: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """Trajectories and log-probabilities of three agents and the ego, given (probability, x, y) of each ego mode.

    The ego is at (x, y) metres after the first half second; all that the others do is made up.
    """
    trajectories, log_probs = torch.randn(4, 6, 12, 5), torch.randn(4, 6)
    trajectories[-1, :, 0, :2] = torch.tensor([mode[1:] for mode in modes])
    log_probs[-1] = torch.tensor([mode[0] for mode in modes]).log()
    return trajectories, log_probs


def plan(module: nn.Module, forecast: tuple[Tensor, Tensor], command: int) -> np.ndarray:
    points: np.ndarray = module(*forecast, torch.tensor([command], dtype=torch.int32)).numpy()
    return points


def test_it_drives_on_at_the_speed_of_the_forecast(module: nn.Module) -> None:
    """4 m in half a second are 24 m in three."""
    points = plan(module, forecast(*[(1 / 6, 0.0, 4.0)] * 6), STRAIGHT)
    np.testing.assert_allclose(points, [[0, 4], [0, 8], [0, 12], [0, 16], [0, 20], [0, 24]], atol=1e-5)


def test_likely_modes_count_more(module: nn.Module) -> None:
    points = plan(module, forecast((0.75, 0.0, 4.0), (0.25, 0.0, 0.0), *[(0.0, 9.0, 9.0)] * 4), STRAIGHT)
    np.testing.assert_allclose(points[0], [0, 3], atol=1e-5)


def test_command_bends_the_path(module: nn.Module) -> None:
    """By half of 1 m/s² times three seconds squared, after three seconds."""
    standing = forecast(*[(1 / 6, 0.0, 0.0)] * 6)
    np.testing.assert_allclose(plan(module, standing, RIGHT)[-1], [4.5, 0], atol=1e-5)
    np.testing.assert_allclose(plan(module, standing, LEFT)[-1], [-4.5, 0], atol=1e-5)


@pytest.mark.converts
def test_it_exports(graph: NetworkGraph, module: nn.Module, planner: Submodule) -> None:
    piece = export_submodule(graph, planner, module, ())
    assert [output.name for output in piece.graph.output] == ["plan"]
