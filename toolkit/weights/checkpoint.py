"""Reading trained weights, strictly and without running code from the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from toolkit.errors import InputError
from toolkit.storage.files import sha256_file
from toolkit.storage.regular_file import open_regular, readable_file
from toolkit.text import one_line, quoted, shown
from toolkit.weights.torch_file import COPY_AGAIN, SAVE_AGAIN, read_torch_file

MAX_ROWS = 12
MAX_BYTES = 2**33
"""Of a file; those of UniAD-tiny have half a gigabyte."""
MAX_SHARING = 4
"""How many times as large as its file the weights may be that share memory with each other."""
MAX_DIMENSIONS = 16
MAX_META, MAX_META_TEXT = 100, 2000
WEIGHT_TYPES = frozenset(
    {torch.float16, torch.bfloat16, torch.float32, torch.float64}
    | {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
)


@dataclass(frozen=True)
class Checkpoint:
    """Weights as official keys to dense CPU tensors; `meta` as the training stored it."""

    state_dict: dict[str, Tensor]
    meta: dict[str, Any]
    sha256: str
    path: Path


def load_checkpoint(path: Path | str) -> Checkpoint:
    """The weights of a checkpoint file, ready to use: all floats are float32 and finite.

    Raises InputError as `read_checkpoint` does, and for weights that are not finite.
    """
    stored = read_checkpoint(path)
    weights = {key: value.float() if value.is_floating_point() else value for key, value in stored.state_dict.items()}
    broken = [key for key, value in weights.items() if not value.isfinite().all()]
    if broken:
        names = ", ".join(map(quoted, broken[:3])) + (f" and {len(broken) - 3} more" if len(broken) > 3 else "")
        raise InputError(
            f"checkpoint {path}: NaN or infinite values in {names}; use a checkpoint from before the training diverged"
        )
    return replace(stored, state_dict=weights)


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a `.pth` file, with `state_dict` and `meta` or a bare state dict, or a `.safetensors` file.

    Values and precision are those of the file. A common `module.` prefix is removed, and everything else that a
    training stores (optimizer, moving averages) is left out. Raises InputError for a file that is missing, damaged or
    foreign, or that would run code.
    """
    path = readable_file(path, "checkpoint")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"checkpoint {path} is larger than {MAX_BYTES} bytes; {SAVE_AGAIN}")
    with open_regular(path) as file:
        start = file.read(16)
    if start[8:9] == b"{":
        content = _read_safetensors(path)
    elif start.startswith((b"PK\x03\x04", b"\x80")):
        content = read_torch_file(path, zipped=start.startswith(b"PK"))
    else:
        raise InputError(
            f"checkpoint {path} is neither a PyTorch nor a safetensors file: it starts with {quoted(start)}; "
            f"{COPY_AGAIN}"
        )
    if not isinstance(content, dict):
        raise InputError(f"checkpoint {path} holds no state dict but a {type(content).__name__}; {SAVE_AGAIN}")
    meta = content.get("meta")
    weights = _clean(content.get("state_dict", content), path)
    if sum(value.nbytes for value in weights.values()) > MAX_SHARING * size:
        raise InputError(
            f"checkpoint {path}: its entries share their memory, and each by itself they take more than {MAX_SHARING} "
            f"times the file's size; {SAVE_AGAIN}"
        )
    return Checkpoint(
        state_dict=weights,
        meta=dict(meta) if isinstance(meta, dict) else {},
        sha256=sha256_file(path),
        path=path,
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


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata()
        return {"state_dict": load_file(path), "meta": meta}
    # Foreign bytes can make the parser fail in any way.
    except Exception as error:
        raise InputError(f"checkpoint {path} is a damaged safetensors file: {one_line(error)}; {COPY_AGAIN}") from error


def _clean(entries: Any, path: Path) -> dict[str, Tensor]:
    """The weights among the entries of a state dict, under official keys."""
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"checkpoint {path} holds no weights; {SAVE_AGAIN}")
    for key, value in entries.items():
        if not isinstance(key, str) or not _is_dense(value):
            kind = type(value).__name__
            raise InputError(
                f"checkpoint {path}: entry {quoted(key)} ({kind}) is not a dense, named tensor; {SAVE_AGAIN}"
            )
    if all(key.startswith("module.") for key in entries):
        entries = {key.removeprefix("module."): value for key, value in entries.items()}
    # A moving average that mmcv keeps beside each weight, inside the state dict.
    averages = {"ema_" + key.replace(".", "_") for key in entries}
    return {key: value.detach() for key, value in entries.items() if key not in averages}


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
