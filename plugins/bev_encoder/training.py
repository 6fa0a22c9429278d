"""How the BEV encoder is trained: on the present of each frame, never on the frames before."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from plugins.bev_encoder.model import BevEncoder
from toolkit.nn.initial import ring_of_samples, xavier_matrices
from toolkit.training.spec import Moment, Step, Training


def step(module: nn.Module, moment: Moment) -> Step:
    """The BEV of a frame. The second stage takes it as it is: no weight of the encoder gets a gradient there."""
    assert isinstance(module, BevEncoder)
    features = moment.tensors["image_features"]
    queries = module.pts_bbox_head.bev_embedding.weight
    previous = torch.zeros_like(queries) if moment.state is None else moment.state["bev"]
    use_previous = torch.full((1,), int(moment.state is not None), dtype=torch.int32, device=queries.device)
    with torch.set_grad_enabled(torch.is_grad_enabled() and moment.stage == 1):
        where = (moment.tensors["lidar2img"], moment.tensors["can_bus"])
        bev, position = moment.calls(encoded, module, features, *where, use_previous, previous)
    return Step({"bev": bev, "bev_position": position}, state={"bev": bev})


def encoded(module: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
    """BEV and position, as `BevEncoder` gives them."""
    outputs: tuple[Tensor, Tensor] = module(*inputs)
    return outputs


def initialise(module: nn.Module) -> None:
    """The transformer's weights, and what tells cameras and levels apart."""
    assert isinstance(module, BevEncoder)
    head = module.pts_bbox_head
    xavier_matrices(head.transformer)
    ring_of_samples(head.transformer)
    for embedding in (head.transformer.level_embeds, head.transformer.cams_embeds):
        nn.init.normal_(embedding)
    for position in head.positional_encoding.parameters():
        nn.init.uniform_(position)


def compiled(module: nn.Module) -> list[nn.Module]:
    """Each layer."""
    assert isinstance(module, BevEncoder)
    return list(module.pts_bbox_head.transformer.encoder.layers)


TRAINING = Training(step, history=True, initialise=initialise, compiled=compiled)
