"""Instance occupancy: where each tracked vehicle is now and will be (UniAD, Hu et al. 2023, section 3.4, OccFormer).

A coarse scene state is carried from step to step. In every step its pixels attend to the instances that
they may belong to, and the instances are read out of the decoded state by a dot product.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from plugins.occupancy.layers import BevProjection, Bottleneck, DenseDecoder, Resampling, UpsamplingAdd
from toolkit.config.model import ModelConfig
from toolkit.nn.attention import ResidualAttention
from toolkit.nn.feedforward import FeedForward

FEEDFORWARD = 2048
NO_INSTANCE_SCORE = -0.9


class MLP(nn.Module):
    """Linear layers of one width with ReLU between them (keys ``layers.0``, ``layers.1`` …)."""

    def __init__(self, dims: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dims, dims) for _ in range(depth)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        out: Tensor = self.layers[-1](x)
        return out


class PixelLayer(nn.Module):
    """Self-attention, norm, masked cross-attention, norm, FFN, norm (keys ``attentions``, ``ffns``, ``norms``)."""

    def __init__(self, dims: int, heads: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([ResidualAttention(dims, heads) for _ in range(2)])
        self.ffns = nn.ModuleList([FeedForward(dims, FEEDFORWARD)])
        self.norms = nn.ModuleList([nn.LayerNorm(dims) for _ in range(3)])

    def forward(self, pixels: Tensor, instances: Tensor, attended: Tensor) -> Tensor:
        """From pixels [P, C], instances [A, C] and attended [P, A] bool -> [P, C]."""
        pixels = self.norms[0](self.attentions[0](pixels))
        pixels = self.norms[1](self.attentions[1](pixels, instances, valid=attended))
        out: Tensor = self.norms[2](self.ffns[0](pixels))
        return out


class PixelDecoder(nn.Module):
    """One transformer layer for each occupancy step."""

    def __init__(self, dims: int, heads: int, steps: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([PixelLayer(dims, heads) for _ in range(steps)])
        # Only exists in the checkpoint.
        self.post_norm = nn.LayerNorm(dims)


class CarriedState(NamedTuple):
    """What one step gives."""

    state: Tensor
    """[1, C, h, w]"""
    logits: Tensor
    """[P, A], of the masks of the instances by which the step's pixels attended to them"""
    size: torch.Size
    """The sides of the grid of these pixels"""


class OccupancyHead(nn.Module):
    """Occupancy of the vehicle classes on the occupancy grid, now and `steps` - 1 steps ahead."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dims, steps = config.embed, config.occupancy.steps
        self.config = config.occupancy
        self.grid = (config.bev.height, config.bev.width)
        self.mode_fuser = nn.Sequential(nn.Linear(dims, dims), nn.LayerNorm(dims), nn.ReLU())
        self.multi_query_fuser = nn.Sequential(
            nn.Linear(3 * dims, 2 * dims), nn.LayerNorm(2 * dims), nn.ReLU(), nn.Linear(2 * dims, dims)
        )
        self.resample = Resampling(config) if config.occupancy.resampled else nn.Identity()
        self.bev_light_proj = BevProjection(dims)
        self.base_downscale = nn.Sequential(Bottleneck(dims), Bottleneck(dims))
        self.temporal_mlps = nn.ModuleList([MLP(dims, 2) for _ in range(steps)])
        self.temporal_mlp_for_mask = MLP(dims, 3)
        self.downscale_convs = nn.ModuleList([Bottleneck(dims) for _ in range(steps)])
        self.transformer_decoder = PixelDecoder(dims, config.heads, steps)
        self.upsample_adds = nn.ModuleList([UpsamplingAdd(dims) for _ in range(steps)])
        self.dense_decoder = DenseDecoder(dims)
        self.query_to_occ_feat = MLP(dims, 3)

    def forward(
        self,
        bev: Tensor,
        motion_query: Tensor,
        embedding: Tensor,
        position: Tensor,
        label: Tensor,
        score: Tensor,
        valid: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Occupied cells, their scores, the occupancy of each instance and whose a cell is, for agents but the ego.

        bev [cells, C]; motion_query [A, modes, C]; embedding and position [A, C]; label [A] int32; score [A];
        valid [A] bool -> occupancy [T, H, W] int32, scores [T, H, W], instances [A, T, H, W],
        owners [T, H, W] int32: 1 + the agent's row, 0 where free.
        """
        vehicle = valid & (label.unsqueeze(-1) == label.new_tensor(self.config.vehicle_classes)).any(-1)
        query = self.instance_query(motion_query, embedding, position)
        # Rows without an instance may hold anything: zeros keep them finite through every matrix product.
        query = torch.where(vehicle.unsqueeze(-1), query, 0.0)
        instance_queries = self.queries_of_steps(query)
        mask_queries = self.temporal_mlp_for_mask(instance_queries)
        states = self.future_states(self.base_state(bev), instance_queries, mask_queries, vehicle)
        logits = self.instance_logits(states, mask_queries)
        instances = torch.where(
            vehicle[:, None, None, None], logits.sigmoid() * score[:, None, None, None], NO_INSTANCE_SCORE
        )
        # A vehicle's score is never negative, so this is also the maximum with one more instance at -0.9.
        scores = instances.amax(0)
        occupied = scores > self.config.score_threshold
        return occupied.int(), scores, instances, torch.where(occupied, instances.argmax(0).int() + 1, 0)

    def instance_query(self, motion_query: Tensor, embedding: Tensor, position: Tensor) -> Tensor:
        """Fuse motion_query [A, modes, C], embedding [A, C] and position [A, C] -> [A, C]."""
        intention = self.mode_fuser(motion_query).amax(1)
        out: Tensor = self.multi_query_fuser(torch.cat((intention, embedding, position), -1))
        return out

    def queries_of_steps(self, query: Tensor) -> Tensor:
        """Instances [A, C] as each step asks for them, [T, A, C]."""
        return torch.stack([mlp(query) for mlp in self.temporal_mlps])

    def base_state(self, bev: Tensor) -> Tensor:
        """BEV features [cells, C] -> coarse scene state [1, C, H/4, W/4], rounded up."""
        image = bev.transpose(0, 1).view(1, -1, *self.grid)
        out: Tensor = self.base_downscale(self.bev_light_proj(self.resample(image)))
        return out

    def future_states(self, state: Tensor, instances: Tensor, mask_queries: Tensor, vehicle: Tensor) -> Tensor:
        """Carry the state [1, C, h, w] through all steps -> [T, C, h, w].

        instances and mask_queries [T, A, C]; vehicle [A] bool.
        """
        return torch.cat([step.state for step in self.carry(state, instances, mask_queries, vehicle)])

    def carry(self, state: Tensor, instances: Tensor, mask_queries: Tensor, vehicle: Tensor) -> list[CarriedState]:
        """What every step gives; arguments as for `future_states`."""
        carried = []
        for step, layer in enumerate(self.transformer_decoder.layers):
            coarse = self.downscale_convs[step](state)
            pixels = coarse[0].flatten(1).transpose(0, 1)
            logits = pixels @ mask_queries[step].transpose(0, 1)
            attended = self.attended_instances(logits, vehicle)
            pixels = layer(pixels, instances[step], attended)
            state = self.upsample_adds[step](pixels.transpose(0, 1).view(coarse.shape), state)
            carried.append(CarriedState(state, logits, coarse.shape[-2:]))
        return carried

    def attended_instances(self, logits: Tensor, vehicle: Tensor) -> Tensor:
        """Instances that a pixel attends to, [P, A] bool: those on it, or every vehicle if there are none.

        logits [P, A] of the mask of each instance; vehicle [A] bool.
        """
        probability = torch.where(vehicle, logits.sigmoid(), 0.0)
        on_pixel = probability >= self.config.attention_threshold
        empty = probability.amax(-1, keepdim=True) < self.config.attention_threshold
        return vehicle & (on_pixel | empty)

    def instance_logits(self, states: Tensor, mask_queries: Tensor) -> Tensor:
        """Read every instance out of the decoded states: [T, C, h, w] and [T, A, C] -> [A, T, H, W]."""
        decoded = self.dense_decoder(states)
        logits = self.query_to_occ_feat(mask_queries) @ decoded.flatten(2)
        return self.on_grid(logits.unflatten(-1, decoded.shape[-2:])).transpose(0, 1)

    def on_grid(self, masks: Tensor) -> Tensor:
        """Masks [T, A, h, w] of any resolution -> [T, A, H, W]."""
        return interpolate(masks, self.grid, mode="bilinear", align_corners=False)


class Occupancy(nn.Module):
    """The submodule: occupancy of all agents; the ego, the last row of every agent tensor, is no instance."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.occ_head = OccupancyHead(config)

    def forward(self, bev: Tensor, *agents: Tensor) -> tuple[Tensor, ...]:
        """From bev [cells, C] and the motion_query, embedding, position, label, score and valid of agents and ego."""
        out: tuple[Tensor, ...] = self.occ_head(bev, *(rows[:-1] for rows in agents))
        return out
