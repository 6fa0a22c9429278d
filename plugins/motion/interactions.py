"""Interactions of the motion queries: among modes, with agents, with lanes and with the BEV around the goal."""

from __future__ import annotations

from torch import Tensor, nn

from custom_ops.multi_scale_deformable_attention.op import multi_scale_deformable_attention
from toolkit.config.model import ModelConfig
from toolkit.nn.dropout import RATE, Dropout
from toolkit.nn.feedforward import FeedForward
from toolkit.nn.transformer import TransformerDecoderLayer, TransformerEncoderLayer

POINTS = 4


class ModeInteraction(nn.Module):
    """The modes of one agent attend to each other: [agents, modes, C] -> same."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.interaction_transformer = TransformerEncoderLayer(config.embed, config.heads, config.feedforward, RATE)

    def forward(self, query: Tensor) -> Tensor:
        out: Tensor = self.interaction_transformer(query)
        return out


class MemoryInteraction(nn.Module):
    """The modes of one agent attend to each other, then to a memory shared by all agents (agents or lanes)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.interaction_transformer = TransformerDecoderLayer(config.embed, config.heads, config.feedforward, RATE)

    def forward(self, query: Tensor, memory: Tensor, valid: Tensor | None = None) -> Tensor:
        """Attend from query [agents, modes, C] to memory [M, C] where valid (bool [M]) -> [agents, modes, C]."""
        out: Tensor = self.interaction_transformer(query, memory, valid)
        return out


class GoalDeformableAttention(nn.Module):
    """Deformable attention around a goal, with sampling points and weights of its own for every future step.

    All steps sample around the same reference point, the goal. The softmax is over the points of one step,
    so each (agent, mode, step) is one query of the fused operator.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dims, self.heads, self.steps = config.embed, config.heads, config.motion.steps
        self.points = POINTS
        self.bev_size = config.bev.height, config.bev.width
        self.sampling_offsets = nn.Linear(dims, self.heads * self.steps * POINTS * 2)
        self.attention_weights = nn.Linear(dims, self.heads * self.steps * POINTS)
        self.value_proj = nn.Linear(dims, dims)
        self.output_proj = nn.Sequential(nn.Linear(self.steps * dims, dims), nn.LayerNorm(dims), nn.ReLU())
        self.dropout = Dropout(RATE)

    def forward(self, query: Tensor, position: Tensor, bev: Tensor, goal: Tensor) -> Tensor:
        """Attend from query [agents, modes, C] to bev [cells, C] around goal [agents, modes, 2], (x, y) in [0, 1].

        position [agents, 1, C] takes part in offsets and weights only -> [agents, modes, C] including the query.
        """
        agents, modes, _ = query.shape
        positioned = query + position
        reference = goal.unsqueeze(2).expand(-1, -1, self.steps, -1)
        sampled = multi_scale_deformable_attention(
            self.value_proj(bev).unflatten(-1, (self.heads, -1)).unsqueeze(0),
            reference.reshape(1, agents * modes * self.steps, 1, 2),
            self.split_steps(self.sampling_offsets(positioned)),
            self.split_steps(self.attention_weights(positioned)),
            list(self.bev_size),
        )
        out: Tensor = query + self.dropout(self.output_proj(sampled.view(agents, modes, -1)))
        return out

    def split_steps(self, x: Tensor) -> Tensor:
        """[agents, modes, heads * steps * N] -> [1, agents * modes * steps, heads, N]."""
        return x.view(*x.shape[:2], self.heads, self.steps, -1).transpose(2, 3).flatten(0, 2).unsqueeze(0)


class BevInteraction(nn.Module):
    """Deformable attention to the BEV around the goal, norm, FFN, norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([GoalDeformableAttention(config)])
        self.ffns = nn.ModuleList([FeedForward(config.embed, config.feedforward, RATE)])
        self.norms = nn.ModuleList([nn.LayerNorm(config.embed) for _ in range(2)])

    def forward(self, query: Tensor, position: Tensor, bev: Tensor, goal: Tensor) -> Tensor:
        """Shapes as in `GoalDeformableAttention`; -> [agents, modes, C]."""
        query = self.norms[0](self.attentions[0](query, position, bev, goal))
        out: Tensor = self.norms[1](self.ffns[0](query))
        return out
