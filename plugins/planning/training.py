"""How the planner is trained: in the last frame of a clip of the second stage."""

from __future__ import annotations

from torch import Tensor, nn

from plugins.planning.ground_truth import plan_truth
from plugins.planning.losses import planning_losses
from plugins.planning.model import Planning
from toolkit.training.spec import Moment, Step, Training

PREFIX = "planning."


def step(module: nn.Module, moment: Moment) -> Step:
    """The losses of the last frame; nothing before. The ego's track is not learnt from the plan, its motion is."""
    if not moment.last:
        return Step()
    assert isinstance(module, Planning)
    tensors, truth = moment.tensors, moment.truth
    ego = (tensors["motion_query"][-1:], tensors["agent_embedding"][-1:].detach())
    (plan,) = moment.calls(planned, module, tensors["bev"], tensors["bev_position"], *ego, tensors["command"])
    boxes = [truth[f"gt_future_boxes.{number}"] for number in range(1, len(plan) + 1)]
    losses = planning_losses(plan, truth["sdc_planning"][0, 0], truth["sdc_planning_mask"][0, 0], boxes)
    return Step({"plan": plan}, {PREFIX + name: loss for name, loss in losses.items()})


def planned(module: nn.Module, *inputs: Tensor) -> tuple[Tensor]:
    """The plan, from inputs as of `Planning`."""
    return (module(*inputs),)


TRAINING = Training(step, truth=plan_truth, stages=(2,))
