"""Plugin of motion forecasting: what the submodule reads, what it gives, and how it is built."""

from __future__ import annotations

from collections.abc import Sequence

from plugins.motion.model import Motion
from toolkit.hookspecs import hookimpl
from toolkit.specs import Submodule, TensorSpec

SUBMODULE = Submodule(
    name="motion",
    checkpoint_prefixes=("motion_head.",),
    inputs=(
        TensorSpec(
            "bev", ("bev_cells", "embed"), "float32", "BEV features; cell = row * width + column, row follows y"
        ),
        TensorSpec(
            "agent_embedding",
            ("agents_and_ego", "embed"),
            "float32",
            "track embedding of each agent from before the memory bank; the ego is the last row",
        ),
        TensorSpec("agent_center", ("agents_and_ego", 3), "float32", "gravity centre, metres, LiDAR frame"),
        TensorSpec("agent_yaw", ("agents_and_ego",), "float32", "box yaw, radians (heading is -yaw - pi/2)"),
        TensorSpec("agent_label", ("agents_and_ego",), "int32", "class index; anything in rows that are not valid"),
        TensorSpec("agent_valid", ("agents_and_ego",), "bool", "rows that hold an agent; always True for the ego"),
        TensorSpec("lane_query", ("lanes", "embed"), "float32", "last state of each map query"),
        TensorSpec("lane_query_position", ("lanes", "embed"), "float32", "learned position of each map query"),
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
    build=Motion,
    results=("motion_trajectories", "motion_log_probs"),
    assets=("motion_head.motion_anchors",),
    unused=("motion_head.layer_track_query_fuser.*",),
    supervised=("motion_head.traj_cls_branches.",),
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """Motion forecasting."""
    return (SUBMODULE,)
