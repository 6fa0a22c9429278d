"""Plugin of the planner: what the submodule reads, what it gives, and how it is built."""

from __future__ import annotations

from collections.abc import Sequence

from plugins.planning.model import Planning
from toolkit.hookspecs import hookimpl
from toolkit.specs import Submodule, TensorSpec

SUBMODULE = Submodule(
    name="planning",
    checkpoint_prefixes=("planning_head.",),
    inputs=(
        TensorSpec(
            "bev", ("bev_cells", "embed"), "float32", "BEV features; cell = row * width + column, row follows y"
        ),
        TensorSpec("bev_position", ("bev_cells", "embed"), "float32", "learned position of each BEV cell"),
        TensorSpec(
            "motion_query",
            ("agents_and_ego", "modes", "embed"),
            "float32",
            "last motion state of each agent and mode; the ego is the last row",
        ),
        TensorSpec(
            "agent_embedding",
            ("agents_and_ego", "embed"),
            "float32",
            "track embedding of each agent; the ego is the last row",
        ),
        TensorSpec("command", (1,), "int32", "driving command: 0 right, 1 left, 2 straight"),
    ),
    outputs=(
        TensorSpec(
            "plan",
            ("plan_steps", 2),
            "float32",
            "planned ego positions (x right, y forward) in metres, LiDAR frame of this instant, every 0.5 s",
        ),
    ),
    build=Planning,
    results=("plan",),
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """The planner."""
    return (SUBMODULE,)
