"""The BEV encoder as a plugin: image features, ego motion and the previous BEV to the BEV."""

from __future__ import annotations

from collections.abc import Sequence

from plugins.bev_encoder.model import BevEncoder
from toolkit.hookspecs import hookimpl
from toolkit.specs import StateSpec, Submodule, TensorSpec, frame_input

BEV_SHAPE = ("bev_cells", "embed")

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
    inputs=(
        TensorSpec(
            "image_features",
            ("cameras", "embed", "feature_height", "feature_width"),
            "float32",
            "one feature map per camera, in the camera order of the config",
        ),
        frame_input("lidar2img"),
        frame_input("can_bus"),
        frame_input("use_previous"),
        TensorSpec("prev_bev", BEV_SHAPE, "float32", "BEV of the previous frame, in its LiDAR frame"),
    ),
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
    build=BevEncoder,
    results=("bev",),
    states=(StateSpec("prev_bev", "bev"),),
    keep_fp32=("*",),  # what is lost here comes back with the next frame
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """The BEV encoder."""
    return (SUBMODULE,)
