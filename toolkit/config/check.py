"""Whether a model configuration makes sense, and whether it is the one a checkpoint was trained with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from toolkit.config.model import ModelConfig
from toolkit.config.size_rules import Shapes
from toolkit.errors import InputError
from toolkit.specs import Submodule
from toolkit.text import quoted

MAX_COUNT = 100_000
MAX_CELLS = 1_000_000
MAX_PIXELS = 2**24
MAX_BASE_CHANNELS = 512
MAX_SIDE = 2**15 - 1
"""Cells along a side of the BEV grid: OpenCV draws no more."""
STAGE_STRIDES = (4, 8, 16, 32)
"""Image pixels a cell of what each stage of the backbone gives."""
LEVEL_EMBEDDINGS = 4
"""Feature levels that a checkpoint has embeddings for."""
MAX_FAULTS = 40
"""That a table lists."""


def check_values(config: ModelConfig) -> None:
    """Raise InputError, which names the fields, an argument each, for values with which no network can be built."""
    faults = list(value_faults(config)) or [complaint for holds, complaint in requirements(config) if not holds]
    if faults:
        raise InputError(*faults)


def several_faults(where: str, faults: Sequence[str]) -> InputError:
    """One line for one fault; for several a table of them."""
    listed = list(dict.fromkeys(faults))
    if len(listed) == 1:
        return InputError(f"{where}: {listed[0]}")
    more = [f"  … and {len(listed) - MAX_FAULTS} more"] if len(listed) > MAX_FAULTS else []
    rows = [f"  {fault}" for fault in listed[:MAX_FAULTS]]
    return InputError(
        f"{where}: {len(listed)} settings do not fit; correct them, or train within what is supported", *rows, *more
    )


def value_faults(config: ModelConfig) -> Iterator[str]:
    """Values that are out of bounds by themselves."""
    for name, value in all_fields(config):
        if isinstance(value, int) and not isinstance(value, bool) and not 1 <= value <= MAX_COUNT:
            yield f"{name} is {value}; it must lie between 1 and {MAX_COUNT}"
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{name} is {value}; it must be a finite number"
        if isinstance(value, tuple) and not value:
            yield f"{name} is empty; it needs at least one entry"
        if isinstance(value, tuple) and any(isinstance(item, str) and not item.isprintable() for item in value):
            yield f"{name} is {quoted(value)}; names must be printable"


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
    stages = len(STAGE_STRIDES)
    scales = 0 < image.scale <= MAX_PIXELS
    yield scales, f"image.scale is {image.scale}; it must be positive, and at most {MAX_PIXELS}"
    yield min(image.std) > 0, f"image.std is {image.std}; it must be positive"
    yield (
        image.stride in STAGE_STRIDES,
        f"image.stride is {image.stride}; the image encoder has {', '.join(map(str, STAGE_STRIDES))}",
    )
    if image.stride in STAGE_STRIDES:
        outputs = stages - STAGE_STRIDES.index(image.stride)
        yield (
            image.levels in (outputs, outputs + 1) and image.levels <= LEVEL_EMBEDDINGS,
            f"image.levels is {image.levels}; with image.stride {image.stride} it must be {outputs}, as the backbone "
            f"has outputs, or one more, and at most {LEVEL_EMBEDDINGS}",
        )
    yield (
        len(image.stage_blocks) == stages and min(image.stage_blocks) > 0,
        f"image.stage_blocks is {image.stage_blocks}; it needs {stages} positive numbers",
    )
    yield (
        0 < image.base_channels <= MAX_BASE_CHANNELS,
        f"image.base_channels is {image.base_channels}; it must lie between 1 and {MAX_BASE_CHANNELS}",
    )
    yield (
        len(image.deformable_stages) == stages,
        f"image.deformable_stages is {image.deformable_stages}; it needs {stages} values",
    )
    yield (
        image.pad_multiple % STAGE_STRIDES[-1] == 0,
        f"image.pad_multiple is {image.pad_multiple}; it must be a multiple of {STAGE_STRIDES[-1]}",
    )
    if scales:
        yield (
            math.prod(image.resized) > 0 and math.prod(image.padded) <= MAX_PIXELS,
            f"image.scale makes images of {image.resized[1]}x{image.resized[0]}; choose 1 to {MAX_PIXELS} pixels",
        )
    yield bev.cells <= MAX_CELLS, f"bev.height x bev.width is {bev.cells} cells; the most is {MAX_CELLS}"
    side = max(bev.height, bev.width)
    yield side <= MAX_SIDE, f"bev.height or bev.width is {side}; it must lie between 1 and {MAX_SIDE}"
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


def decided_config(config: ModelConfig, shapes: Shapes, submodules: Sequence[Submodule]) -> tuple[ModelConfig, str]:
    """The configuration with what submodules say that a checkpoint's shapes decide; and what that changed, or ""."""
    decided = config
    for submodule in submodules:
        if submodule.decide:
            decided = submodule.decide(decided, shapes)
    stated = dict(all_fields(config))
    changes = [f"{name} is {value}, not {stated[name]}" for name, value in all_fields(decided) if value != stated[name]]
    return decided, f"{', '.join(changes)}: the checkpoint decides" if changes else ""


def check_config_against(
    config: ModelConfig, shapes: Shapes, submodules: Sequence[Submodule], fitting: str | None = None
) -> None:
    """Raise InputError, on one line, unless the sizes of the configuration are those of a checkpoint.

    `shapes` are the checkpoint's, by key; each of the `submodules` looks at its own entries, and at the configuration.
    `fitting` is the file of a configuration for such a checkpoint, if one is known.
    """
    differences = [
        f"{rule.field} is {stated} where the checkpoint has {shown or 'none'} ({rule.entry})"
        for submodule in submodules
        for rule in submodule.sizes
        if (shown := rule.shown(shapes)) is not None and shown != (stated := rule.stated(config))
    ]
    if differences:
        raise InputError(
            f"the configuration is not the checkpoint's: {'; '.join(differences)}; "
            + (f"convert with --config {fitting}" if fitting else "convert with the --config of its training")
        )
    if unfit := [fault for submodule in submodules if submodule.unfit for fault in submodule.unfit(shapes)]:
        raise InputError("; ".join(unfit))
    if faults := [fault for submodule in submodules if submodule.faults for fault in submodule.faults(config)]:
        raise InputError("; ".join(faults))
