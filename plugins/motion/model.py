"""Motion forecasting of all agents and the ego: MotionFormer (UniAD, section 3.2).

Every agent has one query per mode. A mode starts from an anchor trajectory of the agent's class group and is
refined layer by layer; what guides a layer is the mode's current goal, the last point of its trajectory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from plugins.motion.interactions import BevInteraction, MemoryInteraction, ModeInteraction
from toolkit.config.model import ModelConfig
from toolkit.nn.coordinates import to_normalised
from toolkit.nn.feedforward import mlp, normed_mlp
from toolkit.nn.positional import sine_position

HALF_TURN = 3.1415953
"""Subtracted from the box yaw to turn anchors; the reference writes pi with these digits."""

FUSED_LAYERS = 6
"""Detection layers that an unused entry of the checkpoint has inputs for."""

TRAJECTORY_FEATURES = 5
"""x, y, sigma x, sigma y and correlation of a step."""


@dataclass(frozen=True)
class Scene:
    """What the motion queries interact with; the same in every layer."""

    bev: Tensor
    """[cells, C] without position."""
    agents: Tensor
    """[agents, C] embedding plus position; the ego is the last row."""
    agent_position: Tensor
    """[agents, C]."""
    agent_valid: Tensor
    """bool [agents]."""
    lanes: Tensor
    """[lanes, C] embedding plus position."""


class ModeStates(NamedTuple):
    """What one layer gives for every mode of every agent."""

    query: Tensor
    """[agents, modes, C]"""
    path: Tensor
    """[agents, modes, steps, 2], metres relative to the box centre along the LiDAR axes"""
    steps: Tensor
    """[agents, modes, steps, 5], of which `path` sums the first two; the others before their activations"""


class MotionFormer(nn.Module):
    """Layers that let the mode queries interact with agents, lanes and the BEV around their goals."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dims, hidden, layers = config.embed, config.feedforward, config.motion.layers
        self.bev_config = config.bev
        self.intention_interaction_layers = ModeInteraction(config)
        self.track_agent_interaction_layers = nn.ModuleList([MemoryInteraction(config) for _ in range(layers)])
        self.map_interaction_layers = nn.ModuleList([MemoryInteraction(config) for _ in range(layers)])
        self.bev_interaction_layers = nn.ModuleList([BevInteraction(config) for _ in range(layers)])
        # Shared by all layers.
        self.static_dynamic_fuser = mlp(2 * dims, hidden, dims)
        self.dynamic_embed_fuser = mlp(3 * dims, hidden, dims)
        self.in_query_fuser = mlp(2 * dims, hidden, dims)
        self.out_query_fuser = mlp(4 * dims, hidden, dims)

    def forward(
        self, layer: int, query: Tensor, static: Tensor, dynamic: tuple[Tensor, ...], goal: Tensor, scene: Scene
    ) -> Tensor:
        """Run one layer.

        query [agents, modes, C]; static intention [agents, modes, C]; dynamic: the three goal embeddings
        [agents, modes, C]; goal [agents, modes, 2] metres in the LiDAR frame -> query [agents, modes, C].
        """
        dynamic_intention = self.dynamic_embed_fuser(torch.cat(dynamic, -1))
        intention = self.static_dynamic_fuser(torch.cat((static, dynamic_intention), -1))
        query = self.in_query_fuser(torch.cat((query, intention), -1))

        position = scene.agent_position.unsqueeze(1)
        positioned = query + position
        attended = (
            self.track_agent_interaction_layers[layer](positioned, scene.agents, scene.agent_valid),
            self.map_interaction_layers[layer](positioned, scene.lanes),
            self.bev_interaction_layers[layer](query, position, scene.bev, to_normalised(goal, self.bev_config)),
            scene.agents.unsqueeze(1).expand(query.shape),
        )
        out: Tensor = self.out_query_fuser(torch.cat(attended, -1))
        return out


class MotionHead(nn.Module):
    """Forecasts several modes of motion for every agent and the ego."""

    motion_anchors: Tensor
    class_to_group: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dims, hidden, motion = config.embed, config.feedforward, config.motion
        groups = len(motion.class_groups)
        self.config = config
        self.register_buffer("motion_anchors", torch.zeros(groups, motion.modes, motion.steps, 2))
        group_of = {label: group for group, labels in enumerate(motion.class_groups) for label in labels}
        labels = range(len(config.class_names))
        self.register_buffer("class_to_group", torch.tensor([group_of[x] for x in labels]), persistent=False)

        self.learnable_motion_query_embedding = nn.Embedding(groups * motion.modes, dims)
        self.motionformer = MotionFormer(config)
        self.agent_level_embedding_layer = mlp(dims, hidden, dims)
        self.scene_level_ego_embedding_layer = mlp(dims, hidden, dims)
        self.scene_level_offset_embedding_layer = mlp(dims, hidden, dims)
        self.boxes_query_embedding_layer = mlp(dims, hidden, dims)
        self.traj_reg_branches = nn.ModuleList(
            [mlp(dims, dims, dims, motion.steps * TRAJECTORY_FEATURES) for _ in range(motion.layers)]
        )
        # Only training reads the classification of layers before the last one.
        self.traj_cls_branches = nn.ModuleList([normed_mlp(dims, 1) for _ in range(motion.layers)])
        # Only exists in the checkpoint.
        self.layer_track_query_fuser = nn.Sequential(
            nn.Linear(FUSED_LAYERS * dims, dims), nn.LayerNorm(dims), nn.ReLU()
        )

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Forecast all agents.

        Arguments as for `decode` -> trajectories [agents, modes, steps, 5], log-probabilities [agents, modes], queries
        [agents, modes, C] and agent positions [agents, C].
        """
        layers, position = self.decode(*inputs)
        return trajectories(layers[-1]), self.log_probabilities(-1, layers[-1]), layers[-1].query, position

    def decode(
        self,
        bev: Tensor,
        embedding: Tensor,
        center: Tensor,
        yaw: Tensor,
        label: Tensor,
        valid: Tensor,
        lane_query: Tensor,
        lane_query_position: Tensor,
    ) -> tuple[list[ModeStates], Tensor]:
        """What every layer gives, and the agents' positions [agents, C].

        bev [cells, C]; embedding [agents, C]; center [agents, 3] metres in the LiDAR frame; yaw [agents] radians;
        label [agents] int32; valid [agents] bool; lane_query and lane_query_position [lanes, C]. Rows that are not
        valid may hold anything; they come out finite.

        In training, where layers look and the goals that they start from have no gradient, except that the first
        layer's depend on where the network sees the agents.
        """
        embedding = torch.where(valid.unsqueeze(-1), embedding, 0)
        center = torch.where(valid.unsqueeze(-1), center[:, :2], 0)
        yaw = torch.where(valid, yaw, 0)
        group = self.class_to_group.index_select(0, torch.where(valid, label, 0))

        position = self.boxes_query_embedding_layer(self.encode(center))
        scene = Scene(bev, embedding + position, position, valid, lane_query + lane_query_position)
        center = center.unsqueeze(1)
        rotation = rotation_matrices(yaw - HALF_TURN)

        # Points are rows: p @ R^T rotates by R, p @ R rotates back.
        anchor = self.motion_anchors[:, :, -1].index_select(0, group)
        goal = anchor @ rotation.transpose(1, 2)
        agent_goal, offset_goal, ego_goal = self.embed_goals(anchor, goal, goal + center)
        dynamic = (self.motionformer.intention_interaction_layers(agent_goal), offset_goal, ego_goal)
        static = dynamic[0] + offset_goal + self.learned_intention(group)

        query = torch.zeros_like(static)
        layers = []
        for layer, regress in enumerate(self.traj_reg_branches):
            if layer > 0:
                dynamic = self.embed_goals(*map(self.constant, (goal @ rotation, goal, goal + center)))
            query = self.motionformer(layer, query, static, dynamic, self.constant(goal + center), scene)
            steps = regress(query).unflatten(-1, (-1, TRAJECTORY_FEATURES))
            path = steps[..., :2].cumsum(-2)
            goal = path[..., -1, :]
            layers.append(ModeStates(query, path, steps))
        return layers, position

    def constant(self, x: Tensor) -> Tensor:
        """x without gradient in training."""
        return x.detach() if self.training else x

    def log_probabilities(self, layer: int, states: ModeStates) -> Tensor:
        """Of a layer's modes, [agents, modes]."""
        log_probs: Tensor = self.traj_cls_branches[layer](states.query).squeeze(-1).log_softmax(-1)
        return log_probs

    def encode(self, metres: Tensor) -> Tensor:
        """[..., 2] metres -> sinusoidal features [..., C]."""
        return sine_position(to_normalised(metres, self.config.bev), self.config.embed // 2)

    def embed_goals(self, agent: Tensor, offset: Tensor, ego: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed goals [agents, modes, 2] in metres, given in three frames.

        agent: the agent's own frame; offset: relative to the box centre along the LiDAR axes; ego: LiDAR frame.
        """
        agent, offset, ego = self.encode(torch.stack((agent, offset, ego))).unbind()
        return (
            self.agent_level_embedding_layer(agent),
            self.scene_level_offset_embedding_layer(offset),
            self.scene_level_ego_embedding_layer(ego),
        )

    def learned_intention(self, group: Tensor) -> Tensor:
        """Learned embedding [agents, modes, C] of each mode of the agents' class groups [agents]."""
        table = self.learnable_motion_query_embedding.weight.view(-1, self.config.motion.modes, self.config.embed)
        return table.index_select(0, group)


class Motion(nn.Module):
    """The motion submodule; its attribute carries the checkpoint's prefix ``motion_head.``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.motion_head = MotionHead(config)

    def forward(
        self,
        bev: Tensor,
        agent_embedding: Tensor,
        agent_center: Tensor,
        agent_yaw: Tensor,
        agent_label: Tensor,
        agent_valid: Tensor,
        lane_query: Tensor,
        lane_query_position: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tensors as in the submodule's specs."""
        forecast: tuple[Tensor, Tensor, Tensor, Tensor] = self.motion_head(
            bev, agent_embedding, agent_center, agent_yaw, agent_label, agent_valid, lane_query, lane_query_position
        )
        return forecast


def trajectories(states: ModeStates) -> Tensor:
    """A layer's trajectories [agents, modes, steps, 5]: x, y, both deviations and the correlation of every step."""
    return torch.cat((states.path, states.steps[..., 2:4].exp(), states.steps[..., 4:].tanh()), -1)


def rotation_matrices(angle: Tensor) -> Tensor:
    """Counter-clockwise rotations [N, 2, 2] of column vectors by angles [N] in radians."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((cos, -sin, sin, cos), -1).view(-1, 2, 2)
