"""Plugin of the planner: what the submodule reads, what it gives, and how it is built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from plugins.planning.results import INTERPRETATION
from toolkit.config.size_rules import Shapes, layers, rows
from toolkit.hookspecs import hookimpl
from toolkit.specs import Refinement, Role, Submodule, TensorSpec, Tolerance

if TYPE_CHECKING:
    from torch import nn

    from toolkit.config.model import ModelConfig
    from toolkit.evaluation.metric import Metric
    from toolkit.runtime.results import FrameResult
    from toolkit.training.spec import Training

ADAPTER = "planning_head.bev_adapter."
SIZES = (
    rows("planning.steps", lambda c: c.planning.steps, "planning_head.reg_branch.2.weight", per=2),
    layers("planning.layers", lambda c: c.planning.layers, "planning_head.attn_module.layers."),
    rows("planning.commands", lambda c: c.planning.commands, "planning_head.navi_embed.weight"),
)


def unfit(shapes: Shapes) -> Iterator[str]:
    """Planners of UniAD v1.0 had no adapter, and added up their steps otherwise, which no weights tell."""
    if not any(key.startswith(ADAPTER) for key in shapes):
        yield (
            f"the checkpoint has no {ADAPTER}*: it is of UniAD v1.0, whose planner has no adapter and is not "
            "supported; take the weights of release v1.0.1, or train with its code"
        )


def build(config: ModelConfig) -> nn.Module:
    """The planner with weights to be loaded."""
    from plugins.planning.model import Planning

    return Planning(config)


def training() -> Training:
    """How the planner is trained."""
    from plugins.planning.training import TRAINING

    return TRAINING


def optimised(result: FrameResult) -> FrameResult:
    """The result with a plan that keeps off the cells that vehicles will occupy."""
    from plugins.planning.collision import refine

    return refine(result)


COLLISION_OPTIMISATION = Refinement(
    option="--collision-optimisation",
    meaning="Push plans off the cells that vehicles are forecast to occupy, as UniAD does behind its planner.",
    apply=optimised,
)
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
            tolerance=Tolerance(norm=1e-3, largest=1e-3),
            role=Role.PLAN,
        ),
    ),
    build=build,
    training=training,
    interpretation=INTERPRETATION,
    sizes=SIZES,
    unfit=unfit,
    results=("plan",),
    refinements=(COLLISION_OPTIMISATION,),
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """The planner."""
    return (SUBMODULE,)


@hookimpl
def uniad_metrics() -> Sequence[Metric]:
    """How well plans drive."""
    from plugins.planning.evaluation import METRIC

    return (METRIC,)
