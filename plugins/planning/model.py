"""The planner: one query asks the bird's-eye view where the ego should drive (UniAD, section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from toolkit.config.model import ModelConfig
from toolkit.nn.dropout import RATE
from toolkit.nn.feedforward import mlp
from toolkit.nn.transformer import TransformerDecoderLayer

BEV_ADAPTERS = 3


class BevAdapter(nn.Sequential):
    """Convolutions that adapt a BEV map [1, C, H, W] to planning: 3x3 to C/2, ReLU, 1x1 back to C."""

    def __init__(self, dims: int) -> None:
        super().__init__(nn.Conv2d(dims, dims // 2, 3, padding=1), nn.ReLU(), nn.Conv2d(dims // 2, dims, 1))


class PlanDecoder(nn.Module):
    """Decoder layers in which the plan query attends to the BEV cells."""

    def __init__(self, dims: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([TransformerDecoderLayer(dims, heads, hidden, RATE) for _ in range(layers)])

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """Decode query [1, C] from memory [cells, C] -> [1, C]."""
        for layer in self.layers:
            query = layer(query, memory)
        return query


class PlanningHead(nn.Module):
    """Plans the ego trajectory from its motion modes, its track embedding and the driving command."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dims, planning = config.embed, config.planning
        self.bev_size = config.bev.height, config.bev.width
        self.steps = planning.steps
        self.navi_embed = nn.Embedding(planning.commands, dims)
        self.pos_embed = nn.Embedding(1, dims)
        self.mlp_fuser = nn.Sequential(nn.Linear(3 * dims, dims), nn.LayerNorm(dims), nn.ReLU())
        self.bev_adapter = nn.Sequential(*(BevAdapter(dims) for _ in range(BEV_ADAPTERS)))
        self.attn_module = PlanDecoder(dims, config.heads, config.feedforward, planning.layers)
        self.reg_branch = mlp(dims, dims, 2 * planning.steps)

    def forward(self, bev: Tensor, bev_position: Tensor, ego_modes: Tensor, ego: Tensor, command: Tensor) -> Tensor:
        """Plan the next steps.

        bev and bev_position [cells, C]; ego_modes [modes, C], the ego's motion queries; ego [C], its track
        embedding; command [1] int32 (0 right, 1 left, 2 straight) -> [steps, 2], (x, y) in metres in the
        LiDAR frame of this instant, one point every 0.5 s.
        """
        query = self.plan_query(ego_modes, ego, command)
        query = self.attn_module(query, self.adapt_bev(bev + bev_position))
        displacements: Tensor = self.reg_branch(query).view(self.steps, 2)
        return displacements.cumsum(0)

    def plan_query(self, ego_modes: Tensor, ego: Tensor, command: Tensor) -> Tensor:
        """Fuse each mode with the ego and the command, then take the maximum over modes: [1, C]."""
        context = torch.cat((ego.unsqueeze(0), self.navi_embed(command)), -1)
        fused = self.mlp_fuser(torch.cat((ego_modes, context.expand(ego_modes.shape[0], -1)), -1))
        query: Tensor = fused.amax(0, keepdim=True) + self.pos_embed.weight
        return query

    def adapt_bev(self, bev: Tensor) -> Tensor:
        """Refine the BEV [cells, C] with the convolutional adapters, as one residual."""
        image = bev.view(1, *self.bev_size, -1).permute(0, 3, 1, 2)
        adapted: Tensor = self.bev_adapter(image)
        return bev + adapted.flatten(2).squeeze(0).transpose(0, 1)


class Planning(nn.Module):
    """The planning submodule; its attribute carries the checkpoint's prefix ``planning_head.``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.planning_head = PlanningHead(config)

    def forward(
        self, bev: Tensor, bev_position: Tensor, motion_query: Tensor, agent_embedding: Tensor, command: Tensor
    ) -> Tensor:
        """Tensors as in the submodule's specs; the ego is the last agent row."""
        plan: Tensor = self.planning_head(bev, bev_position, motion_query[-1], agent_embedding[-1], command)
        return plan
