"""The occupancy submodule."""

from __future__ import annotations

from collections.abc import Sequence

from plugins.occupancy.model import Occupancy
from toolkit.hookspecs import hookimpl
from toolkit.specs import Submodule, TensorSpec

SUBMODULE = Submodule(
    name="occupancy",
    checkpoint_prefixes=("occ_head.",),
    inputs=(
        TensorSpec("bev", ("bev_cells", "embed"), "float32", "BEV features, row-major; rows follow y, columns x"),
        TensorSpec("motion_query", ("agents_and_ego", "modes", "embed"), "float32", "motion queries of the last layer"),
        TensorSpec("agent_embedding", ("agents_and_ego", "embed"), "float32", "track embeddings, the ego last"),
        TensorSpec("agent_position", ("agents_and_ego", "embed"), "float32", "embedded box centres"),
        TensorSpec("agent_label", ("agents_and_ego",), "int32", "class index of each agent"),
        TensorSpec("agent_score", ("agents_and_ego",), "float32", "detection score in [0, 1]"),
        TensorSpec("agent_valid", ("agents_and_ego",), "bool", "rows that hold an agent"),
    ),
    outputs=(
        TensorSpec(
            "occupancy",
            ("occupancy_steps", "bev_height", "bev_width"),
            "int32",
            "1 where a vehicle is, now and every 0.5 s; cells of 0.5 m around the LiDAR, rows follow y, columns x",
        ),
        TensorSpec(
            "occupancy_scores",
            ("occupancy_steps", "bev_height", "bev_width"),
            "float32",
            "highest score of any vehicle in the cell; -0.9 without vehicles",
        ),
        TensorSpec(
            "instance_occupancy",
            ("agents", "occupancy_steps", "bev_height", "bev_width"),
            "float32",
            "mask probability times detection score of each agent; -0.9 in rows that hold no vehicle",
            ranked_by="box_scores",
            on_request=True,
        ),
    ),
    results=("occupancy", "occupancy_scores", "instance_occupancy"),
    build=Occupancy,
    unused=("occ_head.transformer_decoder.post_norm.*",),
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """Occupancy of the vehicles, now and in the next two seconds."""
    return (SUBMODULE,)
