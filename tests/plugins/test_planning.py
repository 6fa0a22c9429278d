"""The planner: golden stages of one frame, and what the driving command selects."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from plugins.planning.model import Planning
from plugins.planning.plugin import SUBMODULE
from tests.joined import inputs_of
from toolkit.config.model import BevConfig, ModelConfig

SMALL = ModelConfig(embed=32, feedforward=48, bev=BevConfig(height=5, width=4))


@pytest.fixture
def small() -> Planning:
    torch.manual_seed(0)
    return Planning(SMALL).eval()


@pytest.fixture
def small_inputs() -> list[Tensor]:
    """Random inputs with three agents and the ego, command "right"."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((20, 32), (20, 32), (4, 6, 32), (4, 32))
    return [*(torch.randn(shape, generator=generator) for shape in shapes), torch.tensor([0], dtype=torch.int32)]


@pytest.fixture(scope="module")
def golden_inputs(intermediates: dict[str, np.ndarray]) -> list[Tensor]:
    """Inputs of frame 2 with the ego as the only agent row."""
    named = {name: torch.from_numpy(np.asarray(value)) for name, value in intermediates.items()}
    return [
        named["out.bev_embed"].squeeze(1),
        named["bev.pos"].flatten(2).squeeze(0).T,
        named["motion.sdc_traj_query"][-1],
        named["motion.sdc_track_query"],
        named["in.command"].reshape(1).to(torch.int32),
    ]


def test_every_stage_equals_the_reference(
    golden_inputs: list[Tensor], build_submodule: Callable[..., nn.Module], close: Callable[..., None]
) -> None:
    module = build_submodule(SUBMODULE)
    stages: dict[str, Tensor] = {}
    for name in ("mlp_fuser", "bev_adapter", "attn_module"):
        module.get_submodule(f"planning_head.{name}").register_forward_hook(
            lambda _module, _args, output, name=name: stages.update({name: output})
        )
    plan = module(*golden_inputs)

    close("plan.mlp_fuser_out", stages["mlp_fuser"])
    close("plan.bev_adapter_out", stages["bev_adapter"])
    close("plan.query_out", stages["attn_module"])
    close("plan.traj", plan)


@pytest.mark.parametrize("command", [0, 1, 2])
def test_command_selects_its_row_of_the_command_embedding(
    small: Planning, small_inputs: list[Tensor], command: int
) -> None:
    *features, right = small_inputs
    plan = small(*features, torch.tensor([command], dtype=torch.int32))
    assert plan.shape == (6, 2)

    embedding = small.planning_head.navi_embed.weight
    embedding.copy_(embedding.roll(-command, 0))
    assert torch.equal(plan, small(*features, right))


def test_commands_give_different_plans(small: Planning, small_inputs: list[Tensor]) -> None:
    *features, _ = small_inputs
    right, left, straight = (small(*features, torch.tensor([c], dtype=torch.int32)) for c in range(3))
    assert not torch.allclose(right, left)
    assert not torch.allclose(left, straight)
    assert not torch.allclose(right, straight)


def test_only_the_ego_row_counts(small: Planning, small_inputs: list[Tensor]) -> None:
    bev, bev_position, motion_query, agent_embedding, command = small_inputs
    plan = small(*small_inputs)
    motion_query[:-1] = torch.nan
    agent_embedding[:-1] = torch.nan
    assert torch.equal(plan, small(bev, bev_position, motion_query, agent_embedding, command))


def test_order_of_modes_does_not_matter(small: Planning, small_inputs: list[Tensor]) -> None:
    bev, bev_position, motion_query, agent_embedding, command = small_inputs
    shuffled = small(bev, bev_position, motion_query.flip(1), agent_embedding, command)
    torch.testing.assert_close(small(*small_inputs), shuffled)


@pytest.mark.converts
def test_inputs_and_output_match_the_specs_and_export(small: Planning, small_inputs: list[Tensor]) -> None:
    dimensions = SMALL.dimensions() | {"agents_and_ego": 4}
    assert [spec.resolve(dimensions) for spec in inputs_of(SUBMODULE)] == [x.shape for x in small_inputs]
    exported = torch.export.export(small, tuple(small_inputs))
    torch.testing.assert_close(exported.module()(*small_inputs), small(*small_inputs))
