"""Panoptic map segmentation of the BEV: lane queries for the motion forecast, and masks of map elements.

UniAD (Hu et al. 2023), section 2.1 "MapFormer": Panoptic SegFormer with a BEV in place of image features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from plugins.map_segmentation.mask_head import MaskBlock, MaskHead, StuffMaskBlock
from plugins.map_segmentation.transformer import MapTransformer
from toolkit.config.model import ModelConfig
from toolkit.nn.feedforward import mlp


class PanopticMapHead(nn.Module):
    """Things (divider, crossing, boundary) come from the best of many queries, stuff (drivable area) from its own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.spatial_shape = (config.bev.height, config.bev.width)
        self.max_instances = config.map.max_instances
        dims, heads = config.embed, config.heads
        things, stuff = len(config.map.thing_classes), len(config.map.stuff_classes)
        self.thing_classes = things

        self.transformer = MapTransformer(config)
        self.query_embedding = nn.Embedding(config.map.queries, 2 * dims)
        # Only training reads classes of the layers before the last one.
        self.cls_branches = nn.ModuleList([nn.Linear(dims, things) for _ in range(config.map.decoder_layers)])
        self.reg_branches = nn.ModuleList([mlp(dims, dims, dims, 4) for _ in range(config.map.decoder_layers)])
        self.stuff_query = nn.Embedding(stuff, 2 * dims)
        self.things_mask_head = MaskHead(MaskBlock, config.map.thing_mask_layers, dims, heads)
        self.stuff_mask_head = MaskHead(StuffMaskBlock, config.map.stuff_mask_layers, dims, heads)

        # Only exists in the checkpoint.
        self.bev_embedding = nn.Embedding(config.bev.cells, dims)
        # Only training reads these, of every mask block.
        self.cls_thing_branches = nn.ModuleList([nn.Linear(dims, things) for _ in self.things_mask_head.blocks])
        self.cls_stuff_branches = nn.ModuleList([nn.Linear(dims, 1) for _ in self.stuff_mask_head.blocks])
        self.reg_branches2 = nn.ModuleList([mlp(dims, dims, dims, 4) for _ in self.things_mask_head.blocks])

    def forward(self, bev: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """BEV [H*W, C] -> the submodule's outputs, with N instances selected from Q queries and S stuff classes.

        Lane queries and their position [Q, C]; scores [N], descending; labels [N] int32; boxes [N, 4] as
        (x0, y0, x1, y1) in BEV cells; mask scores [N + S, H, W].
        """
        position, content = self.query_embedding.weight.chunk(2, -1)
        memory, layers = self.transformer(bev, content, position, self.reg_branches)
        lane_query, boxes = layers[-1]
        scores, queries, labels = select_instances(self.cls_branches[-1](lane_query), self.max_instances)

        stuff_query, stuff_position = self.stuff_query.weight.chunk(2, -1)
        thing_masks = self.things_mask_head(lane_query.index_select(0, queries), memory)
        stuff_masks = self.stuff_mask_head(stuff_query, memory, stuff_position)
        mask_scores = torch.cat((thing_masks, stuff_masks)).view(-1, *self.spatial_shape)
        corners = corners_in_cells(boxes.index_select(0, queries), self.spatial_shape)
        return lane_query, position, scores, labels, corners, mask_scores


def select_instances(class_logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` best pairs of query and class.

    class_logits [Q, classes] -> scores [count] float32, descending; queries [count] int64, where a query may repeat
    with another class; labels [count] int32.
    """
    classes = class_logits.shape[-1]
    scores, index = class_logits.sigmoid().flatten().topk(count)
    return scores, index // classes, (index % classes).to(torch.int32)


def corners_in_cells(boxes: Tensor, spatial_shape: tuple[int, int]) -> Tensor:
    """[..., 4] normalised (centre x, centre y, width, height) -> [..., 4] (x0, y0, x1, y1) in BEV cells, clamped."""
    height, width = spatial_shape
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    corners = torch.cat((center - half, center + half), -1)
    return corners.clamp(0, 1) * corners.new_tensor([width, height, width, height])


class MapSegmentation(nn.Module):
    """Holds the head under its checkpoint name."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.seg_head = PanopticMapHead(config)

    def forward(self, bev: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.seg_head(bev)
        return outputs
