"""The BEV encoder as a plugin: image features, ego motion and the previous BEV to the BEV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit.hookspecs import hookimpl
from toolkit.specs import StateSpec, Submodule, TensorSpec

if TYPE_CHECKING:
    from torch import nn

    from toolkit.config import ModelConfig


BEV_SHAPE = ("bev_cells", "embed")


def build(config: ModelConfig) -> nn.Module:
    """The BEV encoder with weights to be loaded."""
    from plugins.bev_encoder.model import BevEncoder

    return BevEncoder(config)


SUBMODULE = Submodule(
    name="bev_encoder",
    checkpoint_prefixes=(
        "pts_bbox_head.transformer.encoder.",
        "pts_bbox_head.transformer.can_bus_mlp.",
        "pts_bbox_head.transformer.level_embeds",
        "pts_bbox_head.transformer.cams_embeds",
        "pts_bbox_head.bev_embedding.",
        "pts_bbox_head.positional_encoding.",
    ),
    inputs=("image_features", "lidar2img", "can_bus", "use_previous", "prev_bev"),
    outputs=(
        TensorSpec(
            "bev",
            BEV_SHAPE,
            "float32",
            "bird's-eye-view features in the LiDAR frame, row-major; rows follow y (rear to front), columns x (left "
            "to right)",
        ),
        TensorSpec("bev_position", BEV_SHAPE, "float32", "learned position of each BEV cell, the same in every frame"),
    ),
    build=build,
    results=("bev",),
    states=(StateSpec("prev_bev", "bev"),),
    keep_fp32=("*",),  # what is lost here comes back with the next frame
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """The BEV encoder."""
    return (SUBMODULE,)
