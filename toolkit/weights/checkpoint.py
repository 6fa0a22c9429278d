"""Reading trained weights, strictly and without running code from the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import InputError
from toolkit.text import quoted, shown
from toolkit.weights.layouts import Weights, averages_beside, split_averages, without_wrappers
from toolkit.weights.stored import read_stored
from toolkit.weights.torch_file import SAVE_AGAIN

MAX_ROWS = 12
MAX_SHARING = 4
"""How many times as large as its file the weights may be that share memory with each other."""
MAX_DIMENSIONS = 16
COUNTER = ".num_batches_tracked"
"""Counts training steps for batch normalization; nothing reads it afterwards."""
MAX_META, MAX_META_TEXT = 100, 2000
WEIGHT_TYPES = frozenset(
    {torch.float16, torch.bfloat16, torch.float32, torch.float64}
    | {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
)


@dataclass(frozen=True)
class Checkpoint:
    """Weights as official keys to dense CPU tensors; `meta` as the training stored it.

    `notes` say, a sentence each, what was chosen of the file.
    """

    state_dict: dict[str, Tensor]
    meta: dict[str, Any]
    sha256: str
    path: Path
    notes: tuple[str, ...] = ()


def load_checkpoint(path: Path | str, weights: Weights = Weights.STORED) -> Checkpoint:
    """The weights of a checkpoint file, ready to use: all floats are float32 and finite.

    Raises InputError as `read_checkpoint` does, and for weights that are not finite.
    """
    stored = read_checkpoint(path, weights)
    ready = {key: value.float() if value.is_floating_point() else value for key, value in stored.state_dict.items()}
    broken = [key for key, value in ready.items() if not value.isfinite().all()]
    if broken:
        names = ", ".join(map(quoted, broken[:3])) + (f" and {len(broken) - 3} more" if len(broken) > 3 else "")
        raise InputError(
            f"checkpoint {path}: NaN or infinite values in {names}; use a checkpoint from before the training diverged"
        )
    return replace(stored, state_dict=ready)


def read_checkpoint(path: Path | str, weights: Weights = Weights.STORED) -> Checkpoint:
    """Read a `.pth` file, with `state_dict` and `meta` or a bare state dict, or `.safetensors`, or the index of parts.

    Values and precision are those of the file. What torch's wrappers put into keys is removed, and everything else that
    a training stores (optimizer, the weights that `weights` does not name) is left out. Raises InputError for a file
    that is missing, damaged or foreign, or that would run code, and for averages that are not there.
    """
    path = Path(path)
    stored = read_stored(path)
    content = stored.content
    if not isinstance(content, dict):
        raise InputError(f"checkpoint {path} holds no state dict but a {type(content).__name__}; {SAVE_AGAIN}")
    meta = content.get("meta")
    chosen, note = _choose(content, weights, path)
    if sum(value.nbytes for value in chosen.values()) > MAX_SHARING * stored.bytes:
        raise InputError(
            f"checkpoint {path}: its entries share their memory, and each by itself they take more than {MAX_SHARING} "
            f"times the file's size; {SAVE_AGAIN}"
        )
    return Checkpoint(
        state_dict=chosen,
        meta=dict(meta) if isinstance(meta, dict) else {},
        sha256=stored.sha256,
        path=path,
        notes=(note,) if note else (),
    )


def printable(meta: Mapping[str, object]) -> dict[str, object]:
    """The entries of a checkpoint's meta that JSON can hold; long texts, such as a whole config, are cut."""
    plain = {k: v for k, v in meta.items() if isinstance(k, str) and isinstance(v, str | int | float | bool | None)}
    return {shown(key): _short(value) for key, value in islice(plain.items(), MAX_META)}


def _short(value: str | float | None) -> str | float | None:
    if isinstance(value, str):
        return value[:MAX_META_TEXT]
    return value if value is None or abs(value) < 2**63 else quoted(value)


def match_weights(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> None:
    """Raise InputError, with a table of the differences, unless both have the same keys and shapes.

    Integers do not stand in for floats either: they are weights that were quantized.
    """
    missing = {key: str(list(expected[key].shape)) for key in expected if key not in actual}
    unexpected = {key: str(list(actual[key].shape)) for key in actual if key not in expected}
    misshapen = {
        key: f"{list(actual[key].shape)} in the checkpoint, {list(expected[key].shape)} in the model"
        for key in expected
        if key in actual and actual[key].shape != expected[key].shape
    } | {
        key: f"{actual[key].dtype} in the checkpoint, {expected[key].dtype} in the model"
        for key in expected
        if key in actual and expected[key].is_floating_point() and not actual[key].is_floating_point()
    }
    if missing or unexpected or misshapen:
        lines = [
            f"the checkpoint does not fit the model: {len(missing)} missing, "
            f"{len(unexpected)} unexpected, {len(misshapen)} mis-shaped entries",
            *_rows("missing", missing),
            *_rows("unexpected", unexpected),
            *_rows("mis-shaped", misshapen),
            "Convert with the configuration and the plugins that the checkpoint was trained for.",
        ]
        raise InputError(*lines)


def _rows(fault: str, notes: Mapping[str, str]) -> list[str]:
    """One line a key; where there are too many, one line for all keys with the same first part."""
    rows = [(shown(key), note) for key, note in notes.items()]
    if len(rows) > MAX_ROWS:
        groups: dict[str, list[str]] = {}
        for key in notes:
            groups.setdefault(key.partition(".")[0], []).append(key)
        rows = [
            (f"{shown(prefix)}.*", f"{len(keys)} such as {shown(keys[0])} {notes[keys[0]]}")
            for prefix, keys in groups.items()
        ]
    listed = rows[:MAX_ROWS]
    width = max((len(name) for name, _ in listed), default=0)
    lines = [f"  {fault:<10}  {name:<{width}}  {note}" for name, note in listed]
    return lines + [f"  {fault:<10}  … and {len(rows) - MAX_ROWS} more"] * (len(rows) > MAX_ROWS)


def _choose(content: Mapping[Any, Any], weights: Weights, path: Path) -> tuple[dict[str, Tensor], str]:
    """The weights to take, and what was left out, if anything that could have been taken instead."""
    stored, averages = split_averages(_dense_entries(content.get("state_dict", content), path))
    beside = averages_beside(content) if "state_dict" in content else None
    name, count = ("ema_…", len(averages)) if averages or beside is None else (beside[0], len(beside[1]))
    if weights is Weights.STORED:
        note = f"{count} moving averages of weights ({name}) are left out; --weights ema takes them instead"
        return stored, note if count else ""
    if not count:
        raise InputError(f"checkpoint {path} holds no moving averages of its weights; leave out --weights ema")
    if not averages and beside is not None:
        averages = _dense_entries(beside[1], path)
    return stored | averages, f"{count} weights are those stored as moving averages ({name}), in place of the others"


def _dense_entries(entries: Any, path: Path) -> dict[str, Tensor]:
    """The entries of a state dict, under the keys of the bare model."""
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"checkpoint {path} holds no weights; {SAVE_AGAIN}")
    for key, value in entries.items():
        if not isinstance(key, str) or not _is_dense(value):
            kind = type(value).__name__
            raise InputError(
                f"checkpoint {path}: entry {quoted(key)} ({kind}) is not a dense, named tensor; {SAVE_AGAIN}"
            )
    return {key: value.detach() for key, value in without_wrappers(entries).items()}


def _is_dense(value: Any) -> bool:
    """Whether a value is a real tensor that is stored in full, so that it takes no more memory than its file."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.dtype in WEIGHT_TYPES
        and value.ndim <= MAX_DIMENSIONS
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def dtype_name(value: Tensor) -> str:
    """Such as "float32"."""
    return str(value.dtype).removeprefix("torch.")
