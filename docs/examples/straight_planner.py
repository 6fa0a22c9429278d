"""A plugin in one file: a planner that drives on as the ego's forecast begins, and accelerates aside on command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from toolkit.config.model import ModelConfig
from toolkit.hookspecs import hookimpl
from toolkit.specs import Role, Submodule, TensorSpec, Tolerance

ACCELERATION = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
"""Metres per second squared along x (right) and y (forward) for the commands right, left and straight."""


class StraightPlanner(nn.Module):
    """Constant velocity from the ego's forecast, and a constant acceleration that the command selects."""

    times: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        planning = config.planning
        self.forecast_seconds = config.motion.step_seconds
        self.straight_planner = nn.Embedding(planning.commands, 2)
        times = planning.step_seconds * torch.arange(1, planning.steps + 1).unsqueeze(1)
        self.register_buffer("times", times, persistent=False)

    def forward(self, motion_trajectories: Tensor, motion_log_probs: Tensor, command: Tensor) -> Tensor:
        """The tensors of motion, and the command; the ego is the last row, and its forecast starts at the origin."""
        probabilities = motion_log_probs[-1].exp()
        first_positions = motion_trajectories[-1, :, 0, :2]
        velocity = probabilities @ first_positions / self.forecast_seconds
        acceleration = self.straight_planner(command)
        plan: Tensor = velocity * self.times + acceleration * self.times**2 / 2
        return plan


SUBMODULE = Submodule(
    name="straight_planner",
    replaces="planning",
    checkpoint_prefixes=("straight_planner.",),
    inputs=("motion_trajectories", "motion_log_probs", "command"),
    outputs=(
        TensorSpec(
            "plan",
            ("plan_steps", 2),
            "float32",
            "planned ego positions (x, y) in metres, LiDAR frame",
            tolerance=Tolerance(norm=1e-3, largest=1e-3),
            role=Role.PLAN,
        ),
    ),
    build=StraightPlanner,
    results=("plan",),
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """The planner."""
    return (SUBMODULE,)


@hookimpl
def uniad_checkpoint_filter(state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The official planner's weights make way for ours, unless the checkpoint already holds trained ones."""
    kept = {key: value for key, value in state_dict.items() if not key.startswith("planning_head.")}
    return {"straight_planner.weight": ACCELERATION} | kept
