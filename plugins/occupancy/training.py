"""How occupancy is trained: on the vehicles in the last frame of a clip of the second stage."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from plugins.occupancy.ground_truth import occupancy_truth
from plugins.occupancy.losses import instance_targets, known_steps, occupancy_losses, supervised
from plugins.occupancy.model import Occupancy, OccupancyHead
from toolkit.training.spec import Moment, Step, Tensors, Training

PREFIX = "occ."
NO_OBJECT = -1
"""An id that none has."""


def step(module: nn.Module, moment: Moment) -> Step:
    """The losses of the last frame; nothing before."""
    if not moment.last:
        return Step()
    assert isinstance(module, Occupancy)
    head: OccupancyHead = module.occ_head
    truth = moment.truth
    agents, ids = supervised(
        moment.tensors["agent_objects"], truth["gt_labels_3d"], truth["gt_inds"], head.config.vehicle_classes
    )
    if len(agents):
        query = vehicle_queries(head, moment.tensors, agents)
    else:
        query, ids = query_without_vehicle(head, moment.tensors), id_without_vehicle(truth["gt_inds"])
    steps = head.config.steps
    losses = occupancy_losses(
        *predicted(head, moment.tensors["bev"], query),
        instance_targets(truth["gt_instance"][0, :steps], ids),
        known_steps(truth["gt_occ_img_is_valid"][0], steps),
    )
    return Step(losses={PREFIX + name: loss for name, loss in losses.items()})


def vehicle_queries(head: OccupancyHead, tensors: Tensors, agents: Tensor) -> Tensor:
    """[M, C], of agents [M] int64. Where they are is not learnt from occupancy."""
    return head.instance_query(
        tensors["motion_query"][agents], tensors["agent_embedding"][agents], tensors["agent_position"][agents].detach()
    )


def query_without_vehicle(head: OccupancyHead, tensors: Tensors) -> Tensor:
    """[1, C]: as the reference, which fuses zeros, so that every parameter always has a gradient."""
    modes, agent = (torch.zeros_like(tensors[name][:1]) for name in ("motion_query", "agent_embedding"))
    return head.instance_query(modes, agent, agent)


def id_without_vehicle(ids: Tensor) -> Tensor:
    """[1]: what that query is to find. In the reference it is the last object of the frame, if by mistake."""
    return ids[-1:] if len(ids) else ids.new_tensor([NO_OBJECT])


def predicted(head: OccupancyHead, bev: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the cells of each instance, and of the masks by which its pixels attend to it: [M, T, H, W] each.

    bev [cells, C]; query [M, C].
    """
    instances = head.queries_of_steps(query)
    masks = head.temporal_mlp_for_mask(instances)
    carried = head.carry(head.base_state(bev), instances, masks, query.new_ones(len(query), dtype=torch.bool))
    attended = torch.stack([step.logits.transpose(0, 1).unflatten(1, step.size) for step in carried])
    states = torch.cat([step.state for step in carried])
    return head.instance_logits(states, masks), head.on_grid(attended).transpose(0, 1)


TRAINING = Training(step, truth=occupancy_truth, stages=(2,))
