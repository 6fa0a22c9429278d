"""Plugin of motion forecasting: what the submodule reads, what it gives, and how it is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit.hookspecs import hookimpl
from toolkit.specs import Submodule, TensorSpec

if TYPE_CHECKING:
    from torch import nn

    from toolkit.config import ModelConfig


def build(config: ModelConfig) -> nn.Module:
    """Motion forecasting with weights and anchors to be loaded."""
    from plugins.motion.model import Motion

    return Motion(config)


SUBMODULE = Submodule(
    name="motion",
    checkpoint_prefixes=("motion_head.",),
    inputs=(
        "bev",
        "agent_embedding",
        "agent_center",
        "agent_yaw",
        "agent_label",
        "agent_valid",
        "lane_query",
        "lane_query_position",
    ),
    outputs=(
        TensorSpec(
            "motion_trajectories",
            ("agents_and_ego", "modes", "motion_steps", 5),
            "float32",
            "every 0.5 s: x, y in metres relative to the box centre along the LiDAR axes, "
            "then sigma x, sigma y in metres and their correlation",
            ranked_by="box_scores",
        ),
        TensorSpec(
            "motion_log_probs",
            ("agents_and_ego", "modes"),
            "float32",
            "log-probability of each mode",
            ranked_by="box_scores",
        ),
        TensorSpec(
            "motion_query",
            ("agents_and_ego", "modes", "embed"),
            "float32",
            "last state of each mode's query",
            ranked_by="box_scores",
        ),
        TensorSpec(
            "agent_position",
            ("agents_and_ego", "embed"),
            "float32",
            "embedding of each agent's centre",
            ranked_by="box_scores",
        ),
    ),
    build=build,
    results=("motion_trajectories", "motion_log_probs"),
    assets=("motion_head.motion_anchors",),
    unused=("motion_head.layer_track_query_fuser.*",),
    supervised=("motion_head.traj_cls_branches.",),
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """Motion forecasting."""
    return (SUBMODULE,)
