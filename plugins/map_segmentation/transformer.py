"""Deformable transformer over the BEV: an encoder of its cells and a decoder of map queries with box refinement.

Zhu et al., "Deformable DETR" (2021), with "Iterative Bounding Box Refinement", as in Panoptic SegFormer
(Li et al. 2022).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from custom_ops.multi_scale_deformable_attention.layers import DeformableDecoderLayer, deformable_attention
from toolkit.config.check import LEVEL_EMBEDDINGS
from toolkit.config.model import ModelConfig
from toolkit.nn.coordinates import bev_reference_points, inverse_sigmoid
from toolkit.nn.dropout import RATE
from toolkit.nn.feedforward import FeedForward
from toolkit.nn.positional import sine_grid


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention, norm, FFN, norm (keys ``attentions``, ``ffns``, ``norms``)."""

    def __init__(self, dims: int, heads: int, hidden: int, points: int = 4, levels: int = 1) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([deformable_attention(dims, heads, points, RATE, levels)])
        self.ffns = nn.ModuleList([FeedForward(dims, hidden, RATE)])
        self.norms = nn.ModuleList([nn.LayerNorm(dims) for _ in range(2)])

    def forward(self, x: Tensor, position: Tensor, reference: Tensor, spatial_shape: tuple[int, int]) -> Tensor:
        """Cells x and their position [H*W, C], reference [H*W, 2] (x, y) in [0, 1] -> [H*W, C]."""
        x = self.norms[0](self.attentions[0](x, x, reference, spatial_shape, query_position=position))
        out: Tensor = self.norms[1](self.ffns[0](x))
        return out


class DeformableEncoder(nn.Module):
    """Every BEV cell attends to the BEV around its own centre."""

    position: Tensor
    reference: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.spatial_shape = (config.bev.height, config.bev.width)
        self.register_buffer("position", sine_grid(*self.spatial_shape, config.embed // 2), persistent=False)
        self.register_buffer("reference", bev_reference_points(*self.spatial_shape), persistent=False)
        self.layers = nn.ModuleList(
            [
                DeformableEncoderLayer(
                    config.embed, config.heads, config.feedforward, levels=config.map.attention_levels
                )
                for _ in range(config.map.encoder_layers)
            ]
        )

    def forward(self, bev: Tensor, level_embedding: Tensor) -> Tensor:
        """BEV [H*W, C], level_embedding [C] -> memory [H*W, C]."""
        position = self.position + level_embedding
        for layer in self.layers:
            bev = layer(bev, position, self.reference, self.spatial_shape)
        return bev


class DecodedQueries(NamedTuple):
    """What one decoder layer gives."""

    states: Tensor
    """[Q, C]"""
    boxes: Tensor
    """[Q, 4], (centre x, centre y, width, height) in [0, 1]"""


class DeformableDecoder(nn.Module):
    """Map queries attend to each other and to the memory around their boxes, which every layer refines."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.spatial_shape = (config.bev.height, config.bev.width)
        self.layers = nn.ModuleList(
            [
                DeformableDecoderLayer(
                    config.embed, config.heads, config.feedforward, dropout=RATE, levels=config.map.attention_levels
                )
                for _ in range(config.map.decoder_layers)
            ]
        )

    def forward(
        self, query: Tensor, position: Tensor, memory: Tensor, reference: Tensor, box_branches: nn.ModuleList
    ) -> list[DecodedQueries]:
        """What each layer gives.

        query and position [Q, C], memory [H*W, C], reference [Q, 2] (x, y) in [0, 1], one box branch per layer. In
        training, boxes have no gradient where the next layer looks there and refines them.
        """
        decoded = []
        for layer, box_branch in zip(self.layers, box_branches, strict=True):
            query = layer(query, position, memory, reference, self.spatial_shape)
            boxes = refine_box(reference, box_branch(query))
            decoded.append(DecodedQueries(query, boxes))
            reference = boxes.detach() if self.training else boxes
        return decoded


def refine_box(reference: Tensor, delta: Tensor) -> Tensor:
    """Move a reference by `delta` [..., 4] in logit space; one that is only a point [..., 2] gains its size from it."""
    logit = inverse_sigmoid(reference)
    if logit.shape[-1] == 2:
        logit = nn.functional.pad(logit, (0, 2))
    return (logit + delta).sigmoid()


class MapTransformer(nn.Module):
    """Encoder and decoder; a query's first reference point is predicted from its position."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.level_embeds = nn.Parameter(torch.zeros(LEVEL_EMBEDDINGS, config.embed))
        self.encoder = DeformableEncoder(config)
        self.decoder = DeformableDecoder(config)
        self.reference_points = nn.Linear(config.embed, 2)

    def forward(
        self, bev: Tensor, query: Tensor, position: Tensor, box_branches: nn.ModuleList
    ) -> tuple[Tensor, list[DecodedQueries]]:
        """BEV [H*W, C], query and position [Q, C] -> memory [H*W, C], what each decoder layer gives."""
        memory = self.encoder(bev, self.level_embeds[0])
        reference = self.reference_points(position).sigmoid()
        return memory, self.decoder(query, position, memory, reference, box_branches)
