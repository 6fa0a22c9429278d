"""Training steps of motion, occupancy and planning: what they need besides the losses, on small random cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from plugins.motion.plugin import SUBMODULE as MOTION
from plugins.occupancy.plugin import SUBMODULE as OCCUPANCY
from plugins.planning.plugin import SUBMODULE as PLANNING
from tests.training.conftest import GoldenClip
from toolkit.config.model import BevConfig, ModelConfig, MotionConfig
from toolkit.specs import Submodule
from toolkit.training.clip_losses import default_type
from toolkit.training.clip_model import without_randomness
from toolkit.training.spec import Moment, Step

SIDE = 20
CONFIG = ModelConfig(
    embed=32, feedforward=32, bev=BevConfig(height=SIDE, width=SIDE), motion=MotionConfig(modes=2, layers=2)
)
CAR, PEDESTRIAN = 0, 8
IDS = (7, 9, 4)


def truth(*labels: int) -> dict[str, Tensor]:
    """Objects of these classes in a row, driving on; the first stands on a corner of the occupancy grid, for good."""
    count = len(labels)
    boxes = torch.zeros(count, 9)
    boxes[:, 0], boxes[:, 3:6] = torch.arange(count) * 5, 2
    instances = torch.zeros(1, 7, SIDE, SIDE, dtype=torch.int64)
    instances[..., :3, :3] = IDS[0]
    return {
        "gt_bboxes_3d": boxes,
        "gt_labels_3d": torch.tensor(labels),
        "gt_inds": torch.tensor(IDS[:count]),
        "gt_fut_traj": boxes[:, None, :2] + torch.arange(1, 13)[None, :, None].double(),
        "gt_fut_traj_mask": torch.ones(count, 12, 2),
        "gt_sdc_fut_traj": torch.zeros(1, 12, 2).double(),
        "gt_sdc_fut_traj_mask": torch.ones(1, 12, 2),
        "gt_instance": instances,
        "gt_occ_img_is_valid": torch.ones(1, 9, dtype=torch.bool),
        "sdc_planning": torch.zeros(1, 1, 6, 3).double(),
        "sdc_planning_mask": torch.ones(1, 1, 6, 2).double(),
        **{f"gt_future_boxes.{step}": boxes for step in range(7)},
    }


def tracks(count: int) -> dict[str, Tensor]:
    """What is before the heads: so many agents, each with the object of its number, and the ego."""
    random = torch.Generator().manual_seed(0)
    rows = count + 1

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    return {
        "bev": draw(SIDE * SIDE, 32),
        "bev_position": draw(SIDE * SIDE, 32),
        "agent_embedding": draw(rows, 32),
        "agent_center": draw(rows, 3),
        "agent_yaw": draw(rows),
        "agent_label": torch.zeros(rows, dtype=torch.int32),
        "agent_score": torch.ones(rows),
        "agent_valid": torch.ones(rows, dtype=torch.bool),
        "agent_objects": torch.arange(count),
        "agent_boxes": draw(rows, 10),
        "agent_position": draw(rows, 32),
        "lane_query": draw(5, 32),
        "lane_query_position": draw(5, 32),
        "motion_query": draw(rows, 2, 32),
        "command": torch.tensor([2], dtype=torch.int32),
    }


@pytest.fixture
def build() -> Callable[[Submodule], nn.Module]:
    """A submodule in training mode, with random weights and without randomness."""

    def make(submodule: Submodule) -> nn.Module:
        torch.manual_seed(0)
        module = submodule.build(CONFIG).train()
        without_randomness(module, {})
        return module

    return make


def run(
    submodule: Submodule, module: nn.Module, tensors: Mapping[str, Tensor], objects: Mapping[str, Tensor], **other: Any
) -> Step:
    assert submodule.training is not None
    training = submodule.training()
    assert training.stages == (2,)
    moment = Moment(tensors, objects, None, 2, **{"last": True, "stage": 2, "options": training.options, **other})
    with torch.enable_grad():
        return training.step(module, moment)


@pytest.mark.parametrize("submodule", [MOTION, OCCUPANCY, PLANNING], ids=lambda submodule: submodule.name)
def test_only_the_present_is_forecast(submodule: Submodule, build: Callable[[Submodule], nn.Module]) -> None:
    step = run(submodule, build(submodule), {}, {}, last=False)
    assert not step.tensors
    assert not step.losses


def test_the_heads_after_motion_get_what_inference_gives_them(build: Callable[[Submodule], nn.Module]) -> None:
    module, tensors = build(MOTION), tracks(2)
    step = run(MOTION, module, tensors, truth(CAR, PEDESTRIAN))
    outputs = module(*(tensors[name] for name in MOTION.reads))
    found = dict(zip([spec.name for spec in MOTION.outputs], outputs, strict=True))
    for name, tensor in step.tensors.items():
        torch.testing.assert_close(tensor, found[name], rtol=0, atol=0)


def test_no_agent_at_all_leaves_the_ego(build: Callable[[Submodule], nn.Module]) -> None:
    for submodule in (MOTION, OCCUPANCY, PLANNING):
        step = run(submodule, build(submodule), tracks(0), truth())
        assert all(loss.isfinite().all() for loss in step.losses.values())


def test_motion_without_the_smoother(build: Callable[[Submodule], nn.Module]) -> None:
    """`use_nonlinear_optimizer`: the path of a car that is seen to drive slower is smoothed with it only."""
    module, tensors, objects = build(MOTION), tracks(1), truth(CAR)
    tensors["agent_center"][:], tensors["agent_boxes"][:, 8:] = 0, 1
    tensors["agent_yaw"][:] = objects["gt_bboxes_3d"][:, 6] = -0.75 * torch.pi
    losses = [
        run(MOTION, module, tensors, objects, options={"use_nonlinear_optimizer": smoothed}).losses["motion.loss_traj"]
        for smoothed in (True, False)
    ]
    assert losses[0] != losses[1]


def test_occupancy_is_that_of_the_golden_clip(
    stage2_clip: GoldenClip, build_submodule: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the stored queries of the vehicles, with statistics of the batch."""
    from plugins.occupancy import training

    with default_type(stage2_clip.dtype):
        module = build_submodule(OCCUPANCY).train()
    queries = stage2_clip.outputs["occ.ins_query"][0]
    monkeypatch.setattr(training, "of_vehicles", lambda *_: [queries] * 3)
    monkeypatch.setattr(module.occ_head, "instance_query", lambda *_: queries)
    last = {name: stage2_clip.truth[f"{name}.2"] for name in ("gt_labels_3d", "gt_inds")}
    objects = torch.tensor(stage2_clip.assignments["occ_matched_gt_idx"][0])
    tensors = {"agent_objects": objects, "bev": stage2_clip.outputs["bev_embed_last"].squeeze(1)}
    losses = run(OCCUPANCY, module, tensors, dict(stage2_clip.truth) | last).losses
    stage2_clip.check_all(losses, "occ.")


def test_agents_whose_object_is_no_vehicle_are_no_occupants(build: Callable[[Submodule], nn.Module]) -> None:
    """A pedestrian that is taken for a car is none; which class the network sees does not count."""
    module = build(OCCUPANCY)
    tensors = {name: tensor.clone().requires_grad_(tensor.is_floating_point()) for name, tensor in tracks(2).items()}
    losses = run(OCCUPANCY, module, tensors, truth(CAR, PEDESTRIAN)).losses
    with torch.enable_grad():
        torch.stack(list(losses.values())).sum().backward()
    embedding = tensors["agent_embedding"].grad
    assert embedding is not None
    assert embedding.any(1).tolist() == [True, False, False]
    assert tensors["agent_position"].grad is None, "where agents are is not learnt from occupancy"


def test_without_a_vehicle_every_parameter_of_occupancy_still_has_a_gradient(
    build: Callable[[Submodule], nn.Module],
) -> None:
    """Processes that train together wait for each other's gradients."""

    def with_gradient(*labels: int) -> set[str]:
        module = build(OCCUPANCY)
        losses = run(OCCUPANCY, module, tracks(len(labels)), truth(*labels)).losses
        with torch.enable_grad():
            torch.stack(list(losses.values())).sum().backward()
        return {name for name, parameter in module.named_parameters() if parameter.grad is not None}

    assert with_gradient(PEDESTRIAN) == with_gradient(CAR)


def test_the_plan_teaches_the_ego_s_motion_not_its_track(build: Callable[[Submodule], nn.Module]) -> None:
    tensors = {name: tensor.clone().requires_grad_(tensor.is_floating_point()) for name, tensor in tracks(1).items()}
    losses = run(PLANNING, build(PLANNING), tensors, truth(CAR)).losses
    with torch.enable_grad():
        losses["planning.loss_ade"].backward()
    motion = tensors["motion_query"].grad
    assert motion is not None
    assert motion.flatten(1).any(1).tolist() == [False, True]
    assert tensors["agent_embedding"].grad is None
