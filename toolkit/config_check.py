"""Whether a model configuration makes sense, and whether it is the one a checkpoint was trained with."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from toolkit.config import ImageConfig, ModelConfig
from toolkit.errors import InputError
from toolkit.text import quoted

MAX_COUNT = 100_000
MAX_CELLS = 1_000_000
MAX_PIXELS = 2**24
STAGES = 4

Shapes = Mapping[str, tuple[int, ...]]


def check_values(config: ModelConfig) -> None:
    """Raise InputError, which names the field, for values with which no network can be built."""
    for name, value in all_fields(config):
        if isinstance(value, int) and not 1 <= value <= MAX_COUNT:
            raise InputError(f"{name} is {value}; it must lie between 1 and {MAX_COUNT}")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name} is {value}; it must be a finite number")
        if isinstance(value, tuple) and not value:
            raise InputError(f"{name} is empty; it needs at least one entry")
        if isinstance(value, tuple) and any(isinstance(item, str) and not item.isprintable() for item in value):
            raise InputError(f"{name} is {quoted(value)}; names must be printable")
    for holds, complaint in requirements(config):
        if not holds:
            raise InputError(complaint)


def all_fields(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every field."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from all_fields(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def requirements(config: ModelConfig) -> Iterator[tuple[bool, str]]:
    """What must hold between values, each with the complaint if it does not."""
    image, bev, tracking, map_ = config.image, config.bev, config.tracking, config.map
    stride = ImageConfig().stride
    yield image.scale > 0, f"image.scale is {image.scale}; it must be positive"
    yield min(image.std) > 0, f"image.std is {image.std}; it must be positive"
    yield image.stride == stride, f"image.stride is {image.stride}; the image encoder has {stride}"
    yield (
        len(image.stage_blocks) == STAGES and min(image.stage_blocks) > 0,
        f"image.stage_blocks is {image.stage_blocks}; it needs {STAGES} positive numbers",
    )
    yield (
        image.pad_multiple % stride == 0,
        f"image.pad_multiple is {image.pad_multiple}; it must be a multiple of {stride}",
    )
    yield (
        math.prod(image.resized) > 0 and math.prod(image.padded) <= MAX_PIXELS,
        f"image.scale makes images of {image.resized[1]}x{image.resized[0]}; choose 1 to {MAX_PIXELS} pixels",
    )
    yield bev.cells <= MAX_CELLS, f"bev.height x bev.width is {bev.cells} cells; the most is {MAX_CELLS}"
    for name in ("x_range", "y_range", "z_range"):
        low, high = getattr(bev, name)
        yield low < high, f"bev.{name} is {low} to {high}; it must increase"
    yield (
        bev.spatial_points % bev.pillar_points == 0,
        f"bev.spatial_points is {bev.spatial_points}; it must be a multiple of bev.pillar_points, {bev.pillar_points}",
    )
    report = tracking.report_range
    yield (
        all(a < b for a, b in zip(report[:3], report[3:], strict=True)),
        (f"tracking.report_range is {report}; its minima (first three) must lie below its maxima"),
    )
    yield (
        tracking.track_capacity > tracking.queries,
        f"tracking.track_capacity is {tracking.track_capacity}; it must exceed tracking.queries, {tracking.queries}",
    )
    yield (
        tracking.agent_capacity <= tracking.max_reports <= tracking.track_capacity,
        "tracking.agent_capacity, tracking.max_reports and tracking.track_capacity must not decrease in this order",
    )
    yield len(map_.stuff_classes) == 1, f"map.stuff_classes is {map_.stuff_classes}; exactly one is supported"
    pairs = map_.queries * len(map_.thing_classes)
    yield (
        map_.max_instances <= pairs,
        f"map.max_instances is {map_.max_instances}; there are only {pairs} pairs of query and class",
    )
    yield config.embed % (4 * config.heads) == 0, f"embed is {config.embed}; it must be a multiple of 4 x heads"
    for name, values in (("class_names", config.class_names), ("image.cameras", image.cameras)):
        yield len(set(values)) == len(values), f"{name} holds a name twice"


@dataclass(frozen=True)
class Rule:
    """A size that the configuration states and a checkpoint shows."""

    field: str
    stated: Callable[[ModelConfig], int]
    entry: str
    shown: Callable[[Shapes], int | None]


def rows(field: str, stated: Callable[[ModelConfig], int], key: str, per: int = 1) -> Rule:
    """The first dimension of the entry `key` is `per` times what the configuration states."""
    return Rule(field, stated, key, lambda shapes: shapes[key][0] // per if shapes.get(key) else None)


def layers(field: str, stated: Callable[[ModelConfig], int], prefix: str) -> Rule:
    """The configuration states how many numbers follow `prefix` in the keys."""
    numbered = re.compile(re.escape(prefix) + r"(\d{1,9})\.")

    def count(shapes: Shapes) -> int:
        return len({match[1] for key in shapes if (match := numbered.match(key))})

    return Rule(field, stated, f"{prefix}*", count)


def stage(index: int) -> Rule:
    """The blocks of one stage of the image backbone."""
    prefix = f"img_backbone.layer{index + 1}."
    return layers(f"image.stage_blocks[{index}]", lambda config: config.image.stage_blocks[index], prefix)


HEAD, BEV_LAYER = "pts_bbox_head", "pts_bbox_head.transformer.encoder.layers.0"
RULES: Mapping[str, tuple[Rule, ...]] = {
    "image_encoder": tuple(map(stage, range(STAGES))),
    "bev_encoder": (
        rows("bev.height", lambda c: c.bev.height, f"{HEAD}.positional_encoding.row_embed.weight"),
        rows("bev.width", lambda c: c.bev.width, f"{HEAD}.positional_encoding.col_embed.weight"),
        rows("bev.height x bev.width", lambda c: c.bev.cells, f"{HEAD}.bev_embedding.weight"),
        layers("bev.layers", lambda c: c.bev.layers, f"{HEAD}.transformer.encoder.layers."),
        rows("bev.temporal_points x 2 x heads", lambda c: 2 * c.bev.temporal_points * c.heads,
             f"{BEV_LAYER}.attentions.0.attention_weights.bias"),
        rows("bev.spatial_points x heads", lambda c: c.bev.spatial_points * c.heads,
             f"{BEV_LAYER}.attentions.1.deformable_attention.attention_weights.bias"),
        rows("number of image.cameras", lambda c: len(c.image.cameras), f"{HEAD}.transformer.cams_embeds"),
        rows("embed", lambda c: c.embed, f"{BEV_LAYER}.norms.0.weight"),
        rows("feedforward", lambda c: c.feedforward, f"{BEV_LAYER}.ffns.0.layers.0.0.weight"),
    ),
    "tracking": (
        rows("tracking.queries", lambda c: c.tracking.queries, "query_embedding.weight"),
        layers("tracking.layers", lambda c: c.tracking.layers, f"{HEAD}.transformer.decoder.layers."),
        rows("number of class_names", lambda c: len(c.class_names), f"{HEAD}.cls_branches.0.6.weight"),
    ),
    "map_segmentation": (
        rows("map.queries", lambda c: c.map.queries, "seg_head.query_embedding.weight"),
        rows("number of map.thing_classes", lambda c: len(c.map.thing_classes), "seg_head.cls_branches.0.weight"),
        rows("number of map.stuff_classes", lambda c: len(c.map.stuff_classes), "seg_head.stuff_query.weight"),
        layers("map.encoder_layers", lambda c: c.map.encoder_layers, "seg_head.transformer.encoder.layers."),
        layers("map.decoder_layers", lambda c: c.map.decoder_layers, "seg_head.transformer.decoder.layers."),
        layers("map.thing_mask_layers", lambda c: c.map.thing_mask_layers, "seg_head.things_mask_head.blocks."),
        layers("map.stuff_mask_layers", lambda c: c.map.stuff_mask_layers, "seg_head.stuff_mask_head.blocks."),
    ),
    "motion": (
        rows("number of motion.class_groups x motion.modes", lambda c: len(c.motion.class_groups) * c.motion.modes,
             "motion_head.learnable_motion_query_embedding.weight"),
        rows("motion.steps", lambda c: c.motion.steps, "motion_head.traj_reg_branches.0.4.weight", per=5),
        layers("motion.layers", lambda c: c.motion.layers, "motion_head.traj_reg_branches."),
    ),
    "occupancy": (layers("occupancy.steps", lambda c: c.occupancy.steps, "occ_head.temporal_mlps."),),
    "planning": (
        rows("planning.steps", lambda c: c.planning.steps, "planning_head.reg_branch.2.weight", per=2),
        layers("planning.layers", lambda c: c.planning.layers, "planning_head.attn_module.layers."),
        rows("planning.commands", lambda c: c.planning.commands, "planning_head.navi_embed.weight"),
    ),
}  # fmt: skip
"""By the name of the submodule that owns the entries, so that none apply to one that stands in for it."""


def check_config_against(config: ModelConfig, shapes: Shapes, submodules: Collection[str]) -> None:
    """Raise InputError, on one line, unless the sizes of the configuration are those of a checkpoint.

    `shapes` are the checkpoint's, by key; only entries of the named `submodules` are compared.
    """
    faults = [
        f"{rule.field} is {stated} where the checkpoint has {shown or 'none'} ({rule.entry})"
        for name in submodules
        for rule in RULES.get(name, ())
        if (shown := rule.shown(shapes)) is not None and shown != (stated := rule.stated(config))
    ]
    if faults:
        raise InputError(
            f"the configuration is not the checkpoint's: {'; '.join(faults)}; convert with the --config of its training"
        )
    if "occupancy" in submodules and not set(config.occupancy.vehicle_classes) <= set(range(len(config.class_names))):
        raise InputError(
            f"occupancy.vehicle_classes is {config.occupancy.vehicle_classes}; there are {len(config.class_names)} "
            "classes, counted from 0"
        )
    if "motion" in submodules:
        grouped = sorted(label for group in config.motion.class_groups for label in group)
        if grouped != list(range(len(config.class_names))):
            raise InputError(
                f"motion.class_groups holds the classes {grouped}; it must hold each of the "
                f"{len(config.class_names)} once"
            )
