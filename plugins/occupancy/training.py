"""How occupancy is trained: on the vehicles in the last frame of a clip of the second stage."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from plugins.occupancy.ground_truth import occupancy_truth
from plugins.occupancy.losses import instance_targets, known_steps, occupancy_losses, supervised
from plugins.occupancy.model import Occupancy, OccupancyHead
from toolkit.training.spec import Calls, Moment, Step, Tensors, Training

PREFIX = "occ."
NO_OBJECT = -1
"""An id that none has."""
PADDED_VEHICLES = 32
"""Vehicles are padded to a multiple of this where few different numbers are wanted."""


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
        vehicles = of_vehicles(moment.tensors, agents)
    else:
        vehicles, ids = without_vehicle(moment.tensors), id_without_vehicle(truth["gt_inds"])
    steps = head.config.steps
    losses = occupancy_losses(
        *predicted(moment.calls, head, moment.tensors["bev"], *vehicles),
        instance_targets(truth["gt_instance"][0, :steps], ids),
        known_steps(truth["gt_occ_img_is_valid"][0], steps),
    )
    return Step(losses={PREFIX + name: loss for name, loss in losses.items()})


def of_vehicles(tensors: Tensors, agents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Motion queries, embeddings and positions of agents [M] int64. Where they are is not learnt from occupancy."""
    modes, embedding, position = (tensors[name] for name in ("motion_query", "agent_embedding", "agent_position"))
    return modes[agents], embedding[agents], position[agents].detach()


def without_vehicle(tensors: Tensors) -> tuple[Tensor, Tensor, Tensor]:
    """Zeros of one: as the reference, which fuses these, so that every parameter always has a gradient."""
    modes, agent = (torch.zeros_like(tensors[name][:1]) for name in ("motion_query", "agent_embedding"))
    return modes, agent, agent


def id_without_vehicle(ids: Tensor) -> Tensor:
    """[1]: what that query is to find. In the reference it is the last object of the frame, if by mistake."""
    return ids[-1:] if len(ids) else ids.new_tensor([NO_OBJECT])


def predicted(calls: Calls, head: OccupancyHead, bev: Tensor, *vehicles: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the cells of each instance, and of the masks by which its pixels attend to it: [M, T, H, W] each.

    bev [cells, C]; motion queries [M, modes, C], embeddings and positions [M, C] of the vehicles.
    """
    count = len(vehicles[0])
    more = calls.padded(count, PADDED_VEHICLES) - count
    rows = [torch.cat((x, x.new_zeros(more, *x.shape[1:]))) if more else x for x in vehicles]
    logits, attended = calls(instances_of, head, bev, *rows, torch.arange(count + more, device=bev.device) < count)
    return logits[:count], attended[:count]


def instances_of(
    head: nn.Module, bev: Tensor, modes: Tensor, embedding: Tensor, position: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """`predicted` of the rows that are valid, bool [M]; none attend to others."""
    assert isinstance(head, OccupancyHead)
    instances = head.queries_of_steps(head.instance_query(modes, embedding, position))
    masks = head.temporal_mlp_for_mask(instances)
    carried = head.carry(head.base_state(bev), instances, masks, valid)
    attended = torch.stack([step.logits.transpose(0, 1).unflatten(1, step.size) for step in carried])
    states = torch.cat([step.state for step in carried])
    return head.instance_logits(states, masks), head.on_grid(attended).transpose(0, 1)


TRAINING = Training(step, truth=occupancy_truth, stages=(2,))
