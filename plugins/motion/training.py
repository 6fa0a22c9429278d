"""How the motion forecast is trained: in the last frame of a clip of the second stage, through every layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from plugins.motion.ground_truth import motion_truth
from plugins.motion.losses import motion_losses
from plugins.motion.model import Motion, MotionHead, trajectories
from plugins.motion.targets import motion_targets
from toolkit.nn.initial import ring_of_samples
from toolkit.training.spec import Moment, Step, Tensors, Training

PREFIX = "motion."
INPUTS = ("agent_embedding", "agent_center", "agent_yaw", "agent_label", "agent_valid", "lane_query",
          "lane_query_position")  # fmt: skip
SMOOTHED = "use_nonlinear_optimizer"


def step(module: nn.Module, moment: Moment) -> Step:
    """Queries for occupancy and planning, and the losses of all layers; nothing before the last frame."""
    if not moment.last:
        return Step()
    assert isinstance(module, Motion)
    head: MotionHead = module.motion_head
    tensors = moment.tensors
    layers, position = head.decode(tensors["bev"], *(tensors[name] for name in INPUTS))
    forecast = torch.stack([trajectories(states) for states in layers])
    log_probabilities = torch.stack([head.log_probabilities(number, states) for number, states in enumerate(layers)])
    targets, known = motion_targets(
        agent_boxes(tensors), tensors["agent_objects"], moment.truth, smoothed=bool(moment.options[SMOOTHED])
    )
    losses = motion_losses(forecast, log_probabilities, targets, known)
    return Step(
        {"motion_query": layers[-1].query, "agent_position": position},
        {PREFIX + name: loss for name, loss in losses.items()},
    )


def agent_boxes(tensors: Tensors) -> Tensor:
    """[A, 9], (x, y, z, w, l, h, yaw, vx, vy) of all agents but the ego, from their coded boxes [A + 1, 10]."""
    center, yaw, coded = (tensors[f"agent_{name}"][:-1] for name in ("center", "yaw", "boxes"))
    return torch.cat((center, coded[:, [2, 3, 5]].exp(), yaw[:, None], coded[:, 8:]), -1)


def compiled(module: nn.Module) -> list[nn.Module]:
    """The interactions of the queries, of every layer."""
    assert isinstance(module, Motion)
    former = module.motion_head.motionformer
    interactions = (former.track_agent_interaction_layers, former.map_interaction_layers, former.bev_interaction_layers)
    return [former.intention_interaction_layers, *(layer for layers in interactions for layer in layers)]


TRAINING = Training(
    step,
    truth=motion_truth,
    stages=(2,),
    initialise=ring_of_samples,
    compiled=compiled,
    options={SMOOTHED: True},
)
