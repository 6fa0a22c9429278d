"""Plugin of the planner: what the submodule reads, what it gives, and how it is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit.hookspecs import hookimpl
from toolkit.specs import Submodule, TensorSpec

if TYPE_CHECKING:
    from torch import nn

    from toolkit.config import ModelConfig


def build(config: ModelConfig) -> nn.Module:
    """The planner with weights to be loaded."""
    from plugins.planning.model import Planning

    return Planning(config)


SUBMODULE = Submodule(
    name="planning",
    checkpoint_prefixes=("planning_head.",),
    inputs=("bev", "bev_position", "motion_query", "agent_embedding", "command"),
    outputs=(
        TensorSpec(
            "plan",
            ("plan_steps", 2),
            "float32",
            "planned ego positions (x right, y forward) in metres, LiDAR frame of this instant, every 0.5 s",
        ),
    ),
    build=build,
    results=("plan",),
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """The planner."""
    return (SUBMODULE,)
