"""BEVFormer encoder: image features and the previous BEV to the BEV of this frame (Li et al. 2022, section 3).

The module tree follows the official checkpoint, in which the encoder is part of ``pts_bbox_head``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from custom_ops.multi_scale_deformable_attention.op import NOWHERE
from plugins.bev_encoder.attention import CameraFeatures, SpatialCrossAttention, TemporalSelfAttention
from plugins.bev_encoder.geometry import CAN_BUS_SIZE, align_rotation, ego_shift, pillar_points, project
from toolkit.config.check import LEVEL_EMBEDDINGS
from toolkit.config.model import ModelConfig
from toolkit.nn.coordinates import bev_reference_points
from toolkit.nn.dropout import RATE
from toolkit.nn.feedforward import FeedForward
from toolkit.nn.positional import LearnedPosition


class BevEncoderLayer(nn.Module):
    """Temporal self-attention, norm, spatial cross-attention, norm, FFN, norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dims, heads, bev = config.embed, config.heads, config.bev
        self.bev_shape = (bev.height, bev.width)
        self.feature_shapes = [side for shape in config.image.features for side in shape]
        self.attentions = nn.ModuleList([
            TemporalSelfAttention(dims, heads, bev.temporal_points, RATE),
            SpatialCrossAttention(dims, heads, bev.spatial_points, RATE, config.image.levels),
        ])  # fmt: skip
        self.ffns = nn.ModuleList([FeedForward(dims, config.feedforward, RATE)])
        self.norms = nn.ModuleList([nn.LayerNorm(dims) for _ in range(3)])

    def forward(self, bev: Tensor, position: Tensor, queue: Tensor, reference: Tensor, view: CameraFeatures) -> Tensor:
        """Refine bev [Q, C]; see `TemporalSelfAttention` and `SpatialCrossAttention` for the other arguments."""
        bev = self.norms[0](self.attentions[0](bev, position, queue, reference, self.bev_shape))
        bev = self.norms[1](self.attentions[1](bev, view, self.feature_shapes))
        out: Tensor = self.norms[2](self.ffns[0](bev))
        return out


class BevLayers(nn.Module):
    """The stack of encoder layers."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList([BevEncoderLayer(config) for _ in range(config.bev.layers)])

    def forward(
        self,
        query: Tensor,
        position: Tensor,
        previous: Tensor,
        use_previous: Tensor,
        reference: Tensor,
        view: CameraFeatures,
    ) -> Tensor:
        """Query, position and the aligned previous BEV [Q, C]; use_previous [1] int32; the rest as in a layer."""
        bev, history = query, torch.stack((previous, query))
        for layer in self.layers:
            # The initial query stays in the queue through all layers. A new scene has no history: the layer's own
            # input takes both places.
            queue = torch.where(use_previous > 0, history, bev)
            bev = layer(bev, position, queue, reference, view)
        return bev


class BevTransformer(nn.Module):
    """Adds ego motion to the queries, aligns the previous BEV, projects the pillars, and runs the layers."""

    rotate_center: Tensor
    cell_centers: Tensor
    pillars: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dims, self.bev, self.image_size = config.embed, config.bev, config.image.padded
        self.formula = config.angle_formula
        self.level_cells = [height * width for height, width in config.image.features]
        self.encoder = BevLayers(config)
        self.can_bus_mlp = nn.Sequential(
            nn.Linear(CAN_BUS_SIZE, dims // 2), nn.ReLU(), nn.Linear(dims // 2, dims), nn.ReLU()
        )
        self.can_bus_mlp.add_module("norm", nn.LayerNorm(dims))
        self.level_embeds = nn.Parameter(torch.randn(LEVEL_EMBEDDINGS, dims))
        self.cams_embeds = nn.Parameter(torch.randn(len(config.image.cameras), dims))
        self.register_buffer("rotate_center", torch.tensor(config.bev.rotate_center), persistent=False)
        centers = bev_reference_points(config.bev.height, config.bev.width)
        self.register_buffer("cell_centers", centers, persistent=False)
        self.register_buffer("pillars", pillar_points(config.bev), persistent=False)

    def forward(
        self,
        embedding: Tensor,
        position: Tensor,
        image_features: Tensor,
        lidar2img: Tensor,
        can_bus: Tensor,
        use_previous: Tensor,
        prev_bev: Tensor,
    ) -> Tensor:
        """Learned queries and positions [bev_cells, C]; the rest as in `BevEncoder` -> BEV [bev_cells, C]."""
        features = self.camera_features(image_features)
        reference, visible = project(self.pillars, lidar2img, self.image_size)
        reference = torch.where(visible[..., None, None], reference, NOWHERE)
        out: Tensor = self.encoder(
            embedding + self.can_bus_mlp(can_bus),
            position,
            align_rotation(prev_bev, can_bus, self.rotate_center, self.bev),
            use_previous,
            self.cell_centers + ego_shift(can_bus, self.bev, self.formula),
            CameraFeatures(features, reference, visible),
        )
        return out

    def camera_features(self, image_features: Tensor) -> Tensor:
        """Image features [cameras, C, h, w] as keys [cameras, h*w, C], with what tells cameras and levels apart."""
        keys = image_features.flatten(2).transpose(1, 2)
        if len(self.level_cells) == 1:
            return keys + (self.cams_embeds + self.level_embeds[0]).unsqueeze(1)
        levels = keys.split(self.level_cells, 1)
        embedded = [x + (self.cams_embeds + self.level_embeds[i]).unsqueeze(1) for i, x in enumerate(levels)]
        return torch.cat(embedded, 1)


class BevHead(nn.Module):
    """The learned BEV queries and positions, and the transformer that fills them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.bev_embedding = nn.Embedding(config.bev.cells, config.embed)
        self.positional_encoding = LearnedPosition(config.bev.height, config.bev.width, config.embed // 2)
        self.transformer = BevTransformer(config)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and outputs of `BevEncoder`."""
        position: Tensor = self.positional_encoding()
        return self.transformer(self.bev_embedding.weight, position, *inputs), position


class BevEncoder(nn.Module):
    """The BEV encoder under the checkpoint's prefix ``pts_bbox_head.``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pts_bbox_head = BevHead(config)

    def forward(
        self, image_features: Tensor, lidar2img: Tensor, can_bus: Tensor, use_previous: Tensor, prev_bev: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Image features [cameras, C, h, w], lidar2img [cameras, 4, 4] (metres to pixels), can_bus [18],
        use_previous [1] int32, prev_bev [bev_cells, C] -> BEV and its learned position, both [bev_cells, C].
        """
        out: tuple[Tensor, Tensor] = self.pts_bbox_head(image_features, lidar2img, can_bus, use_previous, prev_bev)
        return out
