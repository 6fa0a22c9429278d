"""The track decoder: queries attend to each other and to the BEV while their boxes are refined layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from custom_ops.multi_scale_deformable_attention.layers import DeformableDecoderLayer
from plugins.tracking.selection import where_valid
from plugins.tracking.state import CODED_BOX
from toolkit.config.model import BevConfig, ModelConfig
from toolkit.nn.coordinates import inverse_sigmoid, to_metres
from toolkit.nn.dropout import RATE
from toolkit.nn.feedforward import mlp, normed_mlp

PAST_STEPS = 8


class DecodedLayer(NamedTuple):
    """What one decoder layer gives for every row."""

    state: Tensor
    """[N, C]"""
    reference: Tensor
    """[N, 3], (x, y, z) in [0, 1] over the BEV range, after this layer's refinement"""
    box: Tensor
    """[N, 10], coded (see `Tracks.box`)"""


class Detections(NamedTuple):
    """What the last decoder layer and its branches give for every row."""

    embedding: Tensor
    """[N, C]"""
    reference: Tensor
    """[N, 3], (x, y, z) in [0, 1] over the BEV range"""
    box: Tensor
    """[N, 10], coded (see `Tracks.box`)"""
    score: Tensor
    """[N], highest class probability; -1, which is below every threshold, in rows that are not valid"""
    label: Tensor
    """[N] int32, class of that score"""


class TrackDecoder(nn.Module):
    """Decoder layers with iterative box refinement (Zhu et al. 2021, appendix A.4)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.bev = config.bev
        self.layers = nn.ModuleList(
            DeformableDecoderLayer(config.embed, config.heads, config.feedforward, dropout=RATE)
            for _ in range(config.tracking.layers)
        )

    def forward(
        self, query: Tensor, reference: Tensor, bev: Tensor, valid: Tensor | None, reg_branches: nn.ModuleList
    ) -> list[DecodedLayer]:
        """The output of each layer, from query [N, 2C], reference [N, 3] in [0, 1], bev [H*W, C], valid: bool [N].

        In training no gradient flows from a layer to the layers before through the reference that they refined.
        """
        position, state = query.chunk(2, -1)
        shape = (self.bev.height, self.bev.width)
        decoded = []
        for layer, regress in zip(self.layers, reg_branches, strict=True):
            state = layer(state, position, bev, reference[:, :2], shape, valid)
            raw = regress(state)
            offset = torch.cat((raw[:, :2], raw[:, 4:5]), -1)
            reference = (inverse_sigmoid(reference) + offset).sigmoid()
            decoded.append(DecodedLayer(state, reference, coded_boxes(raw, reference, self.bev)))
            reference = reference.detach() if self.training else reference
        return decoded


class DetectionHead(nn.Module):
    """The decoder and its branches, named as in the checkpoint's ``pts_bbox_head``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dims, layers = config.embed, config.tracking.layers
        self.transformer = nn.ModuleDict({"decoder": TrackDecoder(config)})
        self.cls_branches = branches(layers, lambda: normed_mlp(dims, len(config.class_names)))
        self.reg_branches = branches(layers, lambda: mlp(dims, dims, dims, CODED_BOX))
        # Only trained, or only in the checkpoint: neither past trajectories nor loss weights influence the outputs.
        self.past_traj_reg_branches = branches(layers, lambda: mlp(dims, dims, dims, 2 * PAST_STEPS))
        self.code_weights = nn.Parameter(torch.ones(CODED_BOX), requires_grad=False)

    def forward(self, query: Tensor, reference: Tensor, bev: Tensor, valid: Tensor) -> Detections:
        """Decode query [N, 2C] with reference [N, 3] in logit space on bev [H*W, C].

        Rows that are not valid (bool [N]) are attended by none.
        """
        last = self.decode(query, reference, bev, valid)[-1]
        score, label = self.cls_branches[-1](last.state).sigmoid().max(-1)
        return Detections(last.state, last.reference, last.box, where_valid(valid, score, -1.0), label.int())

    def decode(self, query: Tensor, reference: Tensor, bev: Tensor, valid: Tensor | None) -> list[DecodedLayer]:
        """Every layer's output; arguments as in `forward`, all rows being valid without `valid`."""
        layers: list[DecodedLayer] = self.transformer["decoder"](
            query, reference.sigmoid(), bev, valid, self.reg_branches
        )
        return layers


def branches(layers: int, branch: Callable[[], nn.Module]) -> nn.ModuleList:
    """One branch per decoder layer."""
    return nn.ModuleList(branch() for _ in range(layers))


def coded_boxes(raw: Tensor, reference: Tensor, bev: BevConfig) -> Tensor:
    """A regression branch's raw output [N, 10] with the refined centre, reference [N, 3] in [0, 1], in metres."""
    center = to_metres(reference, bev)
    return torch.cat((center[:, :2], raw[:, 2:4], center[:, 2:], raw[:, 5:]), -1)
