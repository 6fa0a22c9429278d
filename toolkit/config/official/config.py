"""From an official config of UniAD-tiny, in training or deployment form, or of UniAD-base to a `ModelConfig`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from toolkit.config.check import several_faults
from toolkit.config.model import AngleFormula, ModelConfig
from toolkit.config.official.images import image_settings
from toolkit.config.official.keys import (
    ABSENT,
    CLASS_COUNT,
    DEFORMABLE,
    EXTRA_LEVELS,
    FIXED,
    LATER_HEADS,
    NECK_INPUTS,
    OCCUPANCY_LAYERS,
    OCCUPANCY_X,
    OCCUPANCY_Y,
    RESNET_OUTPUTS,
    SETTINGS,
    STEM_CHANNELS,
    STEM_STRIDE,
    WITHOUT_EFFECT,
    Setting,
    lookup,
)
from toolkit.config.official.python_config import read_python_config
from toolkit.errors import InputError
from toolkit.storage.typed import Misfit, decode
from toolkit.text import quoted

SURVIVORS = 249
"""Track rows that the deployed reference has beyond its queries: 1150 in all."""


def load_official_config(path: Path | str) -> ModelConfig:
    """The model that an official config describes. Raises InputError for what cannot be read or is not supported."""
    values = read_python_config(path)
    try:
        return from_official(values)
    except InputError as error:
        raise several_faults(f"config {path}", error.args) from error
    except Misfit as error:
        raise InputError(f"config {path}: {error}") from error


def from_official(values: Mapping[str, Any]) -> ModelConfig:
    """The `ModelConfig` of the names that an official config assigns.

    Heads that a stage-1 config does not have keep their default settings. Raises InputError that names, an argument
    each, all keys whose values are missing, contradict each other or are not supported, and those of the model that are
    unknown.
    """
    if not isinstance(values.get("model"), dict):
        raise InputError("it assigns no dict to 'model'; give the config of a UniAD model")
    absent_heads = find_absent_heads(values)
    faults = [*missing_heads(absent_heads), *fixed_faults(values, absent_heads), *unknown_keys(values)]
    found: dict[str, Any] = {}
    for setting in SETTINGS:
        try:
            found[setting.name] = read_setting(setting, values, absent_heads)
        except InputError as error:
            faults += error.args
    try:
        found |= image_settings(values)
    except InputError as error:
        faults += error.args
    found = {name: value for name, value in found.items() if value is not ABSENT}
    faults += joint_faults(found)
    if faults:
        raise InputError(*faults)
    if not found.pop(DEFORMABLE):
        found["image.deformable_stages"] = (False,) * RESNET_OUTPUTS
    del found[CLASS_COUNT], found[NECK_INPUTS], found[EXTRA_LEVELS]
    if not absent_heads:
        del found[OCCUPANCY_LAYERS], found[OCCUPANCY_Y]
        found["occupancy.cell_metres"] = found.pop(OCCUPANCY_X)[2]
    # No key says it: the code of variants with several levels computes angles exactly, that of UniAD-tiny does not.
    found["angle_formula"] = AngleFormula.ATAN if found["image.levels"] == 1 else AngleFormula.ATAN2
    found["tracking.track_capacity"] = max(found["tracking.queries"] + SURVIVORS, found["tracking.max_reports"])
    return decode(ModelConfig, nested(found), root="config", largest=None)


def find_absent_heads(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The heads of stage 2 that the config does not have; all of them in stage 1."""
    return tuple(head for head in LATER_HEADS if lookup(values, head) is ABSENT)


def missing_heads(absent: tuple[str, ...]) -> Iterator[str]:
    """The heads that are missing beside others of stage 2."""
    if len(absent) < len(LATER_HEADS):
        for head in absent:
            yield f"{head} is missing; a model has {', '.join(LATER_HEADS)} in stage 2 and none in stage 1"


def fixed_faults(values: Mapping[str, Any], absent_heads: tuple[str, ...]) -> Iterator[str]:
    """Values that the submodules do not implement."""
    for key, fixed in FIXED.items():
        if key.startswith(absent_heads):
            continue
        value = lookup(values, key)
        supported = " or ".join(map(quoted, fixed.values))
        if value is ABSENT and fixed.assumed is ABSENT:
            yield f"{key} is missing; supported: {supported}; add the key"
            continue
        if value is ABSENT:
            value = fixed.assumed
        if isinstance(value, str):
            value = re.sub("TRTP?$", "", value)  # the types of the deployment form
        if isinstance(value, list):
            value = tuple(value)
        if value not in fixed.values:
            yield f"{key} is {quoted(value)}; supported: {supported}"


def unknown_keys(values: Mapping[str, Any]) -> Iterator[str]:
    """Keys of the model whose meaning is unknown, because ignoring them could change the model."""
    known = FIXED.keys() | {key for setting in SETTINGS for key in setting.keys}
    for leaf in leaves(values["model"], "model"):
        parts = leaf.split(".")
        if any(".".join(parts[: end + 1]) in known for end in range(len(parts))):
            continue
        if not any(fnmatchcase(leaf, pattern) for pattern in WITHOUT_EFFECT):
            yield f"{leaf:.200} is not supported; remove it if it only concerns training"


def read_setting(setting: Setting, values: Mapping[str, Any], absent_heads: tuple[str, ...]) -> Any:
    """The field's value, or ABSENT if an absent head states it. Raises InputError for a missing or faulty one."""
    if setting.keys[0].startswith(absent_heads):
        return ABSENT
    stated: dict[str, Any] = {}
    for key in setting.keys:
        value = ABSENT if key.startswith(absent_heads) else lookup(values, key)
        assumed = value is ABSENT
        if assumed and not key.startswith(absent_heads):
            value = setting.defaults.get(key, ABSENT)
        if value is ABSENT:
            continue
        try:
            stated[f"{key} (by default)" if assumed else key] = setting.read(value)
        except ValueError as error:
            raise InputError(f"{key} is {quoted(value)}; it must be {error}") from error
    if not stated:
        raise InputError(f"{setting.keys[0]} is missing; add it, as the config of the training has it")
    first = next(iter(stated))
    for key, value in stated.items():
        if value != stated[first]:
            raise InputError(
                f"{key} is {quoted(value)}, but {first} is {quoted(stated[first])}; give both the same value"
            )
    return stated[first]


def joint_faults(found: Mapping[str, Any]) -> Iterator[str]:
    """Settings that contradict each other, as far as they were found."""
    if {CLASS_COUNT, "class_names"} <= found.keys() and found[CLASS_COUNT] != len(found["class_names"]):
        yield f"num_classes is {found[CLASS_COUNT]}, but class_names has {len(found['class_names'])}; make them agree"
    if {NECK_INPUTS, EXTRA_LEVELS, "image.stride", "image.levels"} <= found.keys():
        yield from neck_faults(found[NECK_INPUTS], found[EXTRA_LEVELS], found["image.stride"], found["image.levels"])
    if {OCCUPANCY_LAYERS, "occupancy.steps"} <= found.keys() and found[OCCUPANCY_LAYERS] != found["occupancy.steps"]:
        yield (
            "model.occ_head.transformer_decoder.num_layers differs from the number of steps (n_future + 1), "
            f"{found['occupancy.steps']}; only one layer per step is supported"
        )
    if {OCCUPANCY_X, OCCUPANCY_Y, "bev.width", "bev.height"} <= found.keys():
        yield from grid_faults(found[OCCUPANCY_X], found[OCCUPANCY_Y], found["bev.width"], found["bev.height"])


def neck_faults(inputs: tuple[int, ...], extra: bool | str, stride: int, levels: int) -> Iterator[str]:
    """What the neck says otherwise than the backbone, whose first output has this stride, or has of further levels."""
    channels = tuple(STEM_CHANNELS * 2**stage for stage in range(RESNET_OUTPUTS) if STEM_STRIDE * 2**stage >= stride)
    if inputs != channels:
        yield f"model.img_neck.in_channels is {list(inputs)}, but the backbone gives {list(channels)}; make them agree"
    if levels > len(channels) and extra != "on_output":
        yield f"model.img_neck.add_extra_convs is {quoted(extra)}; supported: 'on_output'"


def grid_faults(x: tuple[float, ...], y: tuple[float, ...], width: int, height: int) -> Iterator[str]:
    """Axes (first, last, cell, in metres) of the occupancy grid that are not those of a BEV of so many cells."""
    cell = x[2]
    for name, bound, cells in (("xbound", x, width), ("ybound", y, height)):
        half = cell * cells / 2
        if cell <= 0 or not all(map(math.isclose, bound, (-half, half, cell))):
            yield (
                f"model.occ_head.grid_conf.{name} is {list(bound)}; supported: [{-half}, {half}, {cell}], which "
                "has as many cells as the BEV, around 0"
            )


def leaves(value: Any, key: str) -> Iterator[str]:
    """Dotted keys of all values that are not containers of others."""
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        yield key
    else:
        for name, part in value.items():
            yield from leaves(part, f"{key}.{name}")


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """``{"bev.height": 50}`` as ``{"bev": {"height": 50}}``."""
    result: dict[str, Any] = {}
    for name, value in fields.items():
        section, _, key = name.rpartition(".")
        (result.setdefault(section, {}) if section else result)[key] = value
    return result
