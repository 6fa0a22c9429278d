"""The occupancy submodule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from plugins.occupancy.results import INTERPRETATION
from toolkit.config.size_rules import layers
from toolkit.hookspecs import hookimpl
from toolkit.specs import Role, Submodule, TensorSpec, Tolerance

if TYPE_CHECKING:
    from torch import nn

    from toolkit.config.model import ModelConfig
    from toolkit.evaluation.metric import Metric
    from toolkit.training.spec import Training


def faults(config: ModelConfig) -> Iterator[str]:
    """Vehicles are of known classes."""
    if not set(config.occupancy.vehicle_classes) <= set(range(len(config.class_names))):
        yield (
            f"occupancy.vehicle_classes is {config.occupancy.vehicle_classes}; there are {len(config.class_names)} "
            "classes, counted from 0"
        )


def build(config: ModelConfig) -> nn.Module:
    """Occupancy with weights to be loaded."""
    from plugins.occupancy.model import Occupancy

    return Occupancy(config)


def training() -> Training:
    """How occupancy is trained."""
    from plugins.occupancy.training import TRAINING

    return TRAINING


SUBMODULE = Submodule(
    name="occupancy",
    checkpoint_prefixes=("occ_head.",),
    inputs=(
        "bev",
        "motion_query",
        "agent_embedding",
        "agent_position",
        "agent_label",
        "agent_score",
        "agent_valid",
    ),
    outputs=(
        TensorSpec(
            "occupancy",
            ("occupancy_steps", "bev_height", "bev_width"),
            "int32",
            "1 where a vehicle is, now and every 0.5 s; cells of 0.5 m around the LiDAR, rows follow y, columns x",
            role=Role.OCCUPANCY,
        ),
        TensorSpec(
            "occupancy_scores",
            ("occupancy_steps", "bev_height", "bev_width"),
            "float32",
            "highest score of any vehicle in the cell; -0.9 without vehicles",
            tolerance=Tolerance(norm=3e-2),
        ),
        TensorSpec(
            "instance_occupancy",
            ("agents", "occupancy_steps", "bev_height", "bev_width"),
            "float32",
            "mask probability times detection score of each agent; -0.9 in rows that hold no vehicle",
            ranked_by="box_scores",
            on_request=True,
            tolerance=Tolerance(norm=3e-2),
        ),
        TensorSpec(
            "occupancy_instances",
            ("occupancy_steps", "bev_height", "bev_width"),
            "int32",
            "where a vehicle is, 1 + the row among the boxes of the one with the highest score; 0 elsewhere",
            ranked_by="box_scores",
            role=Role.OBJECT_GRID,
        ),
    ),
    results=("occupancy", "occupancy_scores", "instance_occupancy", "occupancy_instances"),
    build=build,
    training=training,
    interpretation=INTERPRETATION,
    sizes=(layers("occupancy.steps", lambda c: c.occupancy.steps, "occ_head.temporal_mlps."),),
    faults=faults,
    unused=("occ_head.transformer_decoder.post_norm.*",),
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """Occupancy of the vehicles, now and in the next two seconds."""
    return (SUBMODULE,)


@hookimpl
def uniad_metrics() -> Sequence[Metric]:
    """How well occupancy is forecast."""
    from plugins.occupancy.evaluation import METRIC

    return (METRIC,)
