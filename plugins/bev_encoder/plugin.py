"""The BEV encoder as a plugin: image features, ego motion and the previous BEV to the BEV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit.config.size_rules import layers, rows
from toolkit.hookspecs import hookimpl
from toolkit.specs import StateSpec, Submodule, TensorSpec, Tolerance

if TYPE_CHECKING:
    from torch import nn

    from toolkit.config.model import ModelConfig
    from toolkit.training.spec import Training


BEV_SHAPE = ("bev_cells", "embed")

HEAD, LAYER = "pts_bbox_head", "pts_bbox_head.transformer.encoder.layers.0"
SIZES = (
    rows("bev.height", lambda c: c.bev.height, f"{HEAD}.positional_encoding.row_embed.weight"),
    rows("bev.width", lambda c: c.bev.width, f"{HEAD}.positional_encoding.col_embed.weight"),
    rows("bev.height x bev.width", lambda c: c.bev.cells, f"{HEAD}.bev_embedding.weight"),
    layers("bev.layers", lambda c: c.bev.layers, f"{HEAD}.transformer.encoder.layers."),
    rows("bev.temporal_points x 2 x heads", lambda c: 2 * c.bev.temporal_points * c.heads,
         f"{LAYER}.attentions.0.attention_weights.bias"),
    rows("bev.spatial_points x image.levels x heads", lambda c: c.bev.spatial_points * c.image.levels * c.heads,
         f"{LAYER}.attentions.1.deformable_attention.attention_weights.bias"),
    rows("number of image.cameras", lambda c: len(c.image.cameras), f"{HEAD}.transformer.cams_embeds"),
    rows("embed", lambda c: c.embed, f"{LAYER}.norms.0.weight"),
    rows("feedforward", lambda c: c.feedforward, f"{LAYER}.ffns.0.layers.0.0.weight"),
)  # fmt: skip


def build(config: ModelConfig) -> nn.Module:
    """The BEV encoder with weights to be loaded."""
    from plugins.bev_encoder.model import BevEncoder

    return BevEncoder(config)


def training() -> Training:
    """How it is trained."""
    from plugins.bev_encoder.training import TRAINING

    return TRAINING


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
            tolerance=Tolerance(norm=1e-4, reduced=2e-3),
        ),
        TensorSpec("bev_position", BEV_SHAPE, "float32", "learned position of each BEV cell, the same in every frame"),
    ),
    build=build,
    training=training,
    sizes=SIZES,
    results=("bev",),
    states=(StateSpec("prev_bev", "bev"),),
    keep_fp32=("*",),  # what is lost here comes back with the next frame
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """The BEV encoder."""
    return (SUBMODULE,)
