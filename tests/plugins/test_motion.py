"""Motion forecasting: golden stages of one frame, class groups, and rows that hold no agent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from plugins.motion.model import Motion, rotation_matrices
from plugins.motion.plugin import SUBMODULE
from tests.joined import inputs_of
from toolkit.config.model import BevConfig, MapConfig, ModelConfig, TrackingConfig

SMALL = ModelConfig(
    embed=32,
    feedforward=48,
    bev=BevConfig(height=5, width=4),
    map=MapConfig(queries=7),
    tracking=TrackingConfig(agent_capacity=5),
)
INPUTS = SUBMODULE.reads
OUTPUTS = [spec.name for spec in SUBMODULE.outputs]


def forecast(module: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(zip(OUTPUTS, module(*(inputs[name] for name in INPUTS)), strict=True))


@pytest.fixture
def small() -> Motion:
    """A small model with random weights and anchors."""
    torch.manual_seed(0)
    module = Motion(SMALL).eval()
    module.motion_head.motion_anchors.normal_(0, 10)
    return module


@pytest.fixture
def small_inputs() -> dict[str, Tensor]:
    """Two agents (rows 0 and 1), three rows without an agent, and the ego in the last row."""
    generator = torch.Generator().manual_seed(1)
    inputs = {
        spec.name: torch.randn(spec.resolve(SMALL.dimensions()), generator=generator)
        for spec in inputs_of(SUBMODULE)
        if spec.dtype == "float32"
    }
    inputs["agent_center"] *= 20
    inputs["agent_label"] = torch.tensor([0, 8, 3, 3, 3, 0], dtype=torch.int32)
    inputs["agent_valid"] = torch.tensor([True, True, False, False, False, True])
    return inputs


@pytest.fixture(scope="module")
def golden_inputs(intermediates: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Inputs of frame 2 at full capacity: 19 agents first, the ego in the last row, padding between."""
    capacity = ModelConfig().dimensions()["agents_and_ego"]

    def padded(agents: str, ego: str) -> Tensor:
        rows = torch.from_numpy(intermediates[f"t2m.active.{agents}"])
        padding = rows.new_zeros(capacity - len(rows) - 1, *rows.shape[1:])
        return torch.cat((rows, padding, torch.from_numpy(intermediates[f"t2m.sdc.{ego}"]).view(1, *rows.shape[1:])))

    return {
        "bev": torch.from_numpy(intermediates["out.bev_embed"]).squeeze(1),
        "agent_embedding": padded("embeddings", "embedding"),
        "agent_center": padded("gravity_center", "gravity_center"),
        "agent_yaw": padded("yaw", "yaw"),
        "agent_label": padded("labels", "label").to(torch.int32),
        "agent_valid": padded("scores", "scores") > 0,
        "lane_query": torch.from_numpy(intermediates["seg.lane_query"]).squeeze(0),
        "lane_query_position": torch.from_numpy(intermediates["seg.lane_query_pos"]).squeeze(0),
    }


@pytest.fixture
def golden_module(golden: Path, build_submodule: Callable[..., nn.Module]) -> nn.Module:
    anchors = torch.from_numpy(np.load(golden / "motion_anchor_infos_mode6_anchors.npy")).float()
    return build_submodule(SUBMODULE, **{"motion_head.motion_anchors": anchors})


def test_every_layer_equals_the_reference(
    golden_inputs: dict[str, Tensor], golden_module: nn.Module, close: Callable[..., None]
) -> None:
    stages: dict[str, list[Tensor]] = {}

    def record(name: str, module: str) -> None:
        def keep_valid_rows(_module: nn.Module, _args: object, output: Tensor) -> None:
            stages.setdefault(name, []).append(output[golden_inputs["agent_valid"]])

        golden_module.get_submodule(module).register_forward_hook(keep_valid_rows)

    for layer in range(3):
        record(f"l{layer}.track_agent", f"motion_head.motionformer.track_agent_interaction_layers.{layer}")
        record(f"l{layer}.map", f"motion_head.motionformer.map_interaction_layers.{layer}")
        record(f"l{layer}.bev", f"motion_head.motionformer.bev_interaction_layers.{layer}")
        record("steps", f"motion_head.traj_reg_branches.{layer}")
    record("inter_states_all", "motion_head.motionformer.out_query_fuser")
    outputs = forecast(golden_module, golden_inputs)

    paths = torch.stack(stages.pop("steps")).view(3, 20, 6, 12, 5)[..., :2].cumsum(-2)
    close("motion.inter_reference_trajs", paths)
    for name, recorded in stages.items():
        close(f"motion.{name}", torch.stack(recorded))
    assert torch.equal(outputs["motion_query"][golden_inputs["agent_valid"]], stages["inter_states_all"][-1])


def test_outputs_equal_the_reference(
    golden_inputs: dict[str, Tensor],
    golden_module: nn.Module,
    intermediates: dict[str, np.ndarray],
    close: Callable[..., None],
) -> None:
    outputs = {k: v[golden_inputs["agent_valid"]] for k, v in forecast(golden_module, golden_inputs).items()}

    close("motion.track_query_pos", outputs["agent_position"])
    for name, output in {
        "motion.all_trajs": "motion_trajectories",
        "motion.all_traj_scores_logp": "motion_log_probs",
        "motion.inter_states_all": "motion_query",
    }.items():
        layers = intermediates[name].copy()
        layers[-1, 0] = outputs[output]
        close(name, layers)


@pytest.mark.parametrize("label", range(10))
def test_label_selects_the_anchors_and_learned_intentions_of_its_class_group(
    small: Motion, small_inputs: dict[str, Tensor], label: int
) -> None:
    """Overwriting what belongs to the other groups changes nothing; overwriting its own group does."""
    (group,) = (g for g, labels in enumerate(SMALL.motion.class_groups) if label in labels)
    small_inputs["agent_label"][:] = label
    valid = small_inputs["agent_valid"]
    expected = forecast(small, small_inputs)["motion_trajectories"][valid]

    head = small.motion_head
    anchors, intentions = head.motion_anchors, head.learnable_motion_query_embedding.weight.view(4, 6, -1)
    others = [g for g in range(4) if g != group]
    anchors[others], intentions[others] = torch.nan, torch.nan
    assert torch.equal(forecast(small, small_inputs)["motion_trajectories"][valid], expected)

    anchors[group] += 10
    changed = forecast(small, small_inputs)["motion_trajectories"][valid]
    assert ((changed - expected).abs().amax((1, 2, 3)) > 0).all()


def test_rows_without_agent_stay_finite_and_never_reach_the_others(
    small: Motion, small_inputs: dict[str, Tensor]
) -> None:
    valid = small_inputs["agent_valid"]
    expected = forecast(small, small_inputs)
    for name in ("agent_embedding", "agent_center", "agent_yaw"):
        small_inputs[name][~valid] = torch.nan
    small_inputs["agent_label"][~valid] = torch.tensor([-7, 99, 2**31 - 1], dtype=torch.int32)

    for name, output in forecast(small, small_inputs).items():
        assert output.isfinite().all(), name
        assert torch.equal(output[valid], expected[name][valid]), name


def test_ego_alone_is_forecast_as_if_there_were_no_other_rows(small: Motion, small_inputs: dict[str, Tensor]) -> None:
    small_inputs["agent_valid"][:-1] = False
    alone = {k: v[-1:] if k.startswith("agent_") else v for k, v in small_inputs.items()}
    expected = forecast(small, alone)
    for name, output in forecast(small, small_inputs).items():
        assert output.isfinite().all(), name
        torch.testing.assert_close(output[-1:], expected[name])


def test_agents_interact(small: Motion, small_inputs: dict[str, Tensor]) -> None:
    before = forecast(small, small_inputs)["motion_query"]
    small_inputs["agent_embedding"][0] += 1
    after = forecast(small, small_inputs)["motion_query"]
    assert not torch.allclose(before[1], after[1])


def test_output_ranges(small: Motion, small_inputs: dict[str, Tensor]) -> None:
    """Standard deviations are positive, correlations lie inside (-1, 1), and the modes' probabilities add to 1."""
    outputs = forecast(small, small_inputs)
    assert (outputs["motion_trajectories"][..., 2:4] > 0).all()
    assert (outputs["motion_trajectories"][..., 4].abs() < 1).all()
    torch.testing.assert_close(outputs["motion_log_probs"].exp().sum(-1), torch.ones(6))


def test_rotation_matrices_turn_counter_clockwise() -> None:
    turn = rotation_matrices(torch.tensor([torch.pi / 2]))[0]
    torch.testing.assert_close(turn @ torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))


@pytest.mark.converts
def test_inputs_and_outputs_match_the_specs_and_export(small: Motion, small_inputs: dict[str, Tensor]) -> None:
    dimensions = SMALL.dimensions()
    arguments = tuple(small_inputs[name] for name in INPUTS)
    assert [spec.resolve(dimensions) for spec in inputs_of(SUBMODULE)] == [x.shape for x in arguments]
    expected = small(*arguments)
    assert [spec.resolve(dimensions) for spec in SUBMODULE.outputs] == [x.shape for x in expected]

    exported = torch.export.export(small, arguments)
    for actual, output in zip(exported.module()(*arguments), expected, strict=True):
        torch.testing.assert_close(actual, output)
