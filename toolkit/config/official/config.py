"""From an official UniAD-tiny config, in training or deployment form, to a `ModelConfig`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from toolkit.config.model import ModelConfig
from toolkit.config.official.images import image_settings
from toolkit.config.official.keys import (
    ABSENT,
    CLASS_COUNT,
    FIXED,
    LATER_HEADS,
    OCCUPANCY_LAYERS,
    OCCUPANCY_X,
    OCCUPANCY_Y,
    SETTINGS,
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
    except (InputError, Misfit) as error:
        raise InputError(f"config {path}: {error}") from error


def from_official(values: Mapping[str, Any]) -> ModelConfig:
    """The `ModelConfig` of the names that an official config assigns.

    Heads that a stage-1 config does not have keep their default settings. Raises InputError that names the key for
    values that are missing, contradict each other or are not supported, and for keys of the model that are unknown.
    """
    if not isinstance(values.get("model"), dict):
        raise InputError("it assigns no dict to 'model'; give the config of a UniAD-tiny model")
    absent_heads = find_absent_heads(values)
    check_fixed(values, absent_heads)
    check_known(values)
    found = {
        setting.name: value
        for setting in SETTINGS
        if (value := read_setting(setting, values, absent_heads)) is not ABSENT
    }
    classes = found.pop(CLASS_COUNT)
    if classes != len(found["class_names"]):
        raise InputError(f"num_classes is {classes}, but class_names has {len(found['class_names'])}; make them agree")
    if not absent_heads:
        found["occupancy.cell_metres"] = occupancy_cell(found)
    found["tracking.track_capacity"] = max(found["tracking.queries"] + SURVIVORS, found["tracking.max_reports"])
    return decode(ModelConfig, nested(found | image_settings(values)), root="config", largest=None)


def find_absent_heads(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The heads of stage 2 if the config has none of them. Raises InputError if it has only some."""
    absent = tuple(head for head in LATER_HEADS if lookup(values, head) is ABSENT)
    if 0 < len(absent) < len(LATER_HEADS):
        raise InputError(f"{absent[0]} is missing; a model has {', '.join(LATER_HEADS)} in stage 2 and none in stage 1")
    return absent


def check_fixed(values: Mapping[str, Any], absent_heads: tuple[str, ...]) -> None:
    """Raise InputError for a value that the submodules do not implement."""
    for key, fixed in FIXED.items():
        if key.startswith(absent_heads):
            continue
        value = lookup(values, key)
        supported = " or ".join(map(quoted, fixed.values))
        if value is ABSENT and fixed.assumed is ABSENT:
            raise InputError(f"{key} is missing; supported: {supported}")
        if value is ABSENT:
            value = fixed.assumed
        if isinstance(value, str):
            value = re.sub("TRTP?$", "", value)  # the types of the deployment form
        if isinstance(value, list):
            value = tuple(value)
        if value not in fixed.values:
            raise InputError(f"{key} is {quoted(value)}; supported: {supported}")


def check_known(values: Mapping[str, Any]) -> None:
    """Raise InputError for a key of the model whose meaning is unknown, because ignoring it could change the model."""
    known = FIXED.keys() | {key for setting in SETTINGS for key in setting.keys}
    for leaf in leaves(values["model"], "model"):
        parts = leaf.split(".")
        if any(".".join(parts[: end + 1]) in known for end in range(len(parts))):
            continue
        if not any(fnmatchcase(leaf, pattern) for pattern in WITHOUT_EFFECT):
            raise InputError(f"{leaf:.200} is not supported; remove it if it only concerns training")


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


def occupancy_cell(found: dict[str, Any]) -> float:
    """Cell size in metres, from what was found about the occupancy grid, which is taken out of it."""
    if found.pop(OCCUPANCY_LAYERS) != found["occupancy.steps"]:
        raise InputError(
            "model.occ_head.transformer_decoder.num_layers differs from the number of steps (n_future + 1), "
            f"{found['occupancy.steps']}; only one layer per step is supported"
        )
    x, y = found.pop(OCCUPANCY_X), found.pop(OCCUPANCY_Y)
    cell = x[2]
    for name, bound, cells in (("xbound", x, found["bev.width"]), ("ybound", y, found["bev.height"])):
        half = cell * cells / 2
        if cell <= 0 or not all(map(math.isclose, bound, (-half, half, cell))):
            raise InputError(
                f"model.occ_head.grid_conf.{name} is {list(bound)}; supported: [{-half}, {half}, {cell}], which "
                "has as many cells as the BEV, around 0"
            )
    return float(cell)


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
