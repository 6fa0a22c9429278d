"""Plugin of motion forecasting: what the submodule reads, what it gives, and how it is built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plugins.motion.results import INTERPRETATION
from toolkit.config.size_rules import layers, rows
from toolkit.hookspecs import hookimpl
from toolkit.specs import Asset, Submodule, TensorSpec, Tolerance

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from toolkit.config.model import ModelConfig
    from toolkit.evaluation.metric import Metric
    from toolkit.training.spec import Training

SIZES = (
    rows("number of motion.class_groups x motion.modes", lambda c: len(c.motion.class_groups) * c.motion.modes,
         "motion_head.learnable_motion_query_embedding.weight"),
    rows("motion.steps", lambda c: c.motion.steps, "motion_head.traj_reg_branches.0.4.weight", per=5),
    layers("motion.layers", lambda c: c.motion.layers, "motion_head.traj_reg_branches."),
)  # fmt: skip


def read_anchors(path: Path, config: ModelConfig) -> np.ndarray:
    """The anchors in a file, as `load_motion_anchors` reads them."""
    from plugins.motion.anchors import load_motion_anchors

    return load_motion_anchors(path, config)


ANCHORS = Asset(
    "motion_head.motion_anchors",
    read_anchors,
    option="--motion-anchors",
    meaning="motion_anchor_infos_mode6.pkl of the training, or its array as .npy.",
)


def faults(config: ModelConfig) -> Iterator[str]:
    """Every class belongs to one group of anchors."""
    grouped = sorted(label for group in config.motion.class_groups for label in group)
    if grouped != list(range(len(config.class_names))):
        yield (
            f"motion.class_groups holds the classes {grouped}; it must hold each of the {len(config.class_names)} once"
        )


def build(config: ModelConfig) -> nn.Module:
    """Motion forecasting with weights and anchors to be loaded."""
    from plugins.motion.model import Motion

    return Motion(config)


def training() -> Training:
    """How motion is trained."""
    from plugins.motion.training import TRAINING

    return TRAINING


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
            tolerance=Tolerance(norm=1e-2),
        ),
        TensorSpec(
            "motion_log_probs",
            ("agents_and_ego", "modes"),
            "float32",
            "log-probability of each mode",
            ranked_by="box_scores",
            tolerance=Tolerance(norm=1e-2),
        ),
        TensorSpec(
            "motion_query",
            ("agents_and_ego", "modes", "embed"),
            "float32",
            "last state of each mode's query",
            ranked_by="box_scores",
            tolerance=Tolerance(norm=1e-2),
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
    training=training,
    interpretation=INTERPRETATION,
    sizes=SIZES,
    faults=faults,
    results=("motion_trajectories", "motion_log_probs"),
    assets=(ANCHORS,),
    unused=("motion_head.layer_track_query_fuser.*",),
    supervised=("motion_head.traj_cls_branches.",),
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """Motion forecasting."""
    return (SUBMODULE,)


@hookimpl
def uniad_metrics() -> Sequence[Metric]:
    """How well motions are forecast."""
    from plugins.motion.evaluation import METRIC

    return (METRIC,)
