"""The map segmentation submodule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from plugins.map_segmentation.merge import postprocess
from plugins.map_segmentation.results import INTERPRETATION
from toolkit.config.size_rules import Shapes, layers, rows
from toolkit.hookspecs import hookimpl
from toolkit.specs import Submodule, TensorSpec

if TYPE_CHECKING:
    from torch import nn

    from toolkit.config.model import ModelConfig
    from toolkit.evaluation.metric import Metric
    from toolkit.training.spec import Training

ATTENTION = "seg_head.transformer.encoder.layers.0.attentions.0.attention_weights.bias"
POINTS = 4
"""Of the map's deformable attention, for each head and level."""
SIZES = (
    rows("map.queries", lambda c: c.map.queries, "seg_head.query_embedding.weight"),
    rows("number of map.thing_classes", lambda c: len(c.map.thing_classes), "seg_head.cls_branches.0.weight"),
    rows("number of map.stuff_classes", lambda c: len(c.map.stuff_classes), "seg_head.stuff_query.weight"),
    layers("map.encoder_layers", lambda c: c.map.encoder_layers, "seg_head.transformer.encoder.layers."),
    layers("map.decoder_layers", lambda c: c.map.decoder_layers, "seg_head.transformer.decoder.layers."),
    rows(
        "map.attention_levels x 4 x heads",
        lambda c: 4 * c.map.attention_levels * c.heads,
        "seg_head.transformer.encoder.layers.0.attentions.0.attention_weights.bias",
    ),
    layers("map.thing_mask_layers", lambda c: c.map.thing_mask_layers, "seg_head.things_mask_head.blocks."),
    layers("map.stuff_mask_layers", lambda c: c.map.stuff_mask_layers, "seg_head.stuff_mask_head.blocks."),
)


def decide(config: ModelConfig, shapes: Shapes) -> ModelConfig:
    """The levels that the attention was built for: the official configurations of UniAD-base say four, trainings may
    have had one.
    """
    weights = shapes.get(ATTENTION) or (0,)
    levels, rest = divmod(weights[0], POINTS * config.heads)
    return config if rest or not levels else replace(config, map=replace(config.map, attention_levels=levels))


def build(config: ModelConfig) -> nn.Module:
    """Map segmentation with weights to be loaded."""
    from plugins.map_segmentation.model import MapSegmentation

    return MapSegmentation(config)


def training() -> Training:
    """How the map is trained."""
    from plugins.map_segmentation.training import TRAINING

    return TRAINING


SUBMODULE = Submodule(
    name="map_segmentation",
    checkpoint_prefixes=("seg_head.",),
    inputs=("bev",),
    outputs=(
        TensorSpec("lane_query", ("lanes", "embed"), "float32", "content of the map queries after the decoder"),
        TensorSpec("lane_query_position", ("lanes", "embed"), "float32", "learned position of the map queries"),
        TensorSpec("map_scores", ("map_instances",), "float32",
                   "class scores in [0, 1] of the best pairs of query and class, descending", ranked_by="map_scores"),
        TensorSpec("map_labels", ("map_instances",), "int32", "index into the config's thing classes",
                   ranked_by="map_scores"),
        TensorSpec("map_boxes", ("map_instances", 4), "float32",
                   "x0, y0, x1, y1 in BEV cells from the grid's corner at the least x and y", ranked_by="map_scores"),
        TensorSpec("map_mask_scores", ("map_masks", "bev_height", "bev_width"), "float32",
                   "scores >= 0 (they can exceed 1) of the map instances in their order, then of the stuff classes; "
                   "a cell belongs to a mask above the config's mask_threshold", ranked_by="map_scores"),
    ),
    build=build,
    interpretation=INTERPRETATION,
    decide=decide,
    sizes=SIZES,
    results=("map_scores", "map_labels", "map_boxes", "map_mask_scores"),
    postprocess=postprocess,
    unused=(
        "seg_head.bev_embedding.*",
        "seg_head.cls_thing_branches.*",
        "seg_head.cls_stuff_branches.*",
        "seg_head.reg_branches2.*",
        "seg_head.*_mask_head.blocks.*.attn.linear*",
    ),
    supervised=("seg_head.cls_branches.",),
    training=training,
)  # fmt: skip


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """Panoptic map segmentation."""
    return (SUBMODULE,)


@hookimpl
def uniad_metrics() -> Sequence[Metric]:
    """How well the map is seen."""
    from plugins.map_segmentation.evaluation import METRIC

    return (METRIC,)
