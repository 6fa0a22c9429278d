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
AGENTS = ("embedding", "center", "yaw", "label", "valid")
"""What is known of each agent, as the forecast takes it."""
PADDED_AGENTS = 32
"""Agents are padded to a multiple of this where few different numbers are wanted."""
SMOOTHED = "use_nonlinear_optimizer"


def step(module: nn.Module, moment: Moment) -> Step:
    """Queries for occupancy and planning, and the losses of all layers; nothing before the last frame."""
    if not moment.last:
        return Step()
    assert isinstance(module, Motion)
    head: MotionHead = module.motion_head
    tensors = moment.tensors
    agents = [tensors[f"agent_{name}"] for name in AGENTS]
    rows = len(agents[0])
    more = moment.calls.padded(rows - 1, PADDED_AGENTS) - (rows - 1)
    inputs = (tensors["bev"], *(padded(x, more) for x in agents), tensors["lane_query"], tensors["lane_query_position"])
    query, position, forecast, log_probabilities = moment.calls(decoded, head, *inputs)
    query, position = (unpadded(x, more) for x in (query, position))
    forecast, log_probabilities = (unpadded(x, more, 1) for x in (forecast, log_probabilities))
    targets, known = motion_targets(
        agent_boxes(tensors), tensors["agent_objects"], moment.truth, smoothed=bool(moment.options[SMOOTHED])
    )
    losses = motion_losses(forecast, log_probabilities, targets, known)
    return Step(
        {"motion_query": query, "agent_position": position},
        {PREFIX + name: loss for name, loss in losses.items()},
    )


def decoded(head: nn.Module, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries of the last layer [agents, modes, C], positions [agents, C], and trajectories and log-probabilities of
    all layers, from inputs as of `MotionHead.decode`.
    """
    assert isinstance(head, MotionHead)
    layers, position = head.decode(*inputs)
    forecast = torch.stack([trajectories(states) for states in layers])
    log_probabilities = torch.stack([head.log_probabilities(number, states) for number, states in enumerate(layers)])
    return layers[-1].query, position, forecast, log_probabilities


def padded(x: Tensor, more: int) -> Tensor:
    """x with so many rows of zeros, agents that are not valid, before its last one, the ego."""
    return torch.cat((x[:-1], x.new_zeros(more, *x.shape[1:]), x[-1:])) if more else x


def unpadded(x: Tensor, more: int, axis: int = 0) -> Tensor:
    """x without them."""
    if not more:
        return x
    rows = x.shape[axis]
    return torch.cat((x.narrow(axis, 0, rows - more - 1), x.narrow(axis, rows - 1, 1)), axis)


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
