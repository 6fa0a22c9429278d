"""Reading trained weights, strictly and without running code from the file."""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
import zipfile
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from toolkit.errors import InputError
from toolkit.files import sha256_file
from toolkit.regular_file import open_regular, readable_file
from toolkit.text import one_line, quoted, shown
from toolkit.untrusted import NUMPY_GLOBALS

MAX_ROWS = 12
MAX_SCANNED_BYTES = 2**20
STATE_DICT_MODULES = ("torch.", "collections.")
COPY_AGAIN = "copy or download it again"
SAVE_AGAIN = "have its owner save the weights alone: torch.save(model.state_dict(), file)"


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
    with open_regular(path) as file:
        start = file.read(16)
    if start[8:9] == b"{":
        content = _read_safetensors(path)
    elif start.startswith((b"PK\x03\x04", b"\x80")):
        content = _read_torch(path, zipped=start.startswith(b"PK"))
    else:
        raise InputError(
            f"checkpoint {path} is neither a PyTorch nor a safetensors file: it starts with {quoted(start)}; "
            f"{COPY_AGAIN}"
        )
    if not isinstance(content, dict):
        raise InputError(f"checkpoint {path} holds no state dict but a {type(content).__name__}; {SAVE_AGAIN}")
    meta = content.get("meta")
    return Checkpoint(
        state_dict=_clean(content.get("state_dict", content), path),
        meta=dict(meta) if isinstance(meta, dict) else {},
        sha256=sha256_file(path),
        path=path,
    )


def printable(meta: Mapping[str, object]) -> dict[str, object]:
    """The entries of a checkpoint's meta that JSON can hold; long texts, such as a whole config, are cut."""
    plain = {k: v for k, v in meta.items() if isinstance(k, str) and isinstance(v, str | int | float | bool | None)}
    return {k: v[:2000] if isinstance(v, str) else v for k, v in plain.items()}


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
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"checkpoint {path} is a damaged safetensors file: {one_line(error)}; {COPY_AGAIN}") from error


def _read_torch(path: Path, *, zipped: bool) -> Any:
    numpy_globals: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (stand_in, name) for name, stand_in in NUMPY_GLOBALS.items()
    ]
    if zipped and _is_compressed(path):
        raise InputError(f"checkpoint {path} is compressed, so its size is unknown; write it again with torch.save")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(numpy_globals):
            # The only warnings are about pickle protocols, and those that matter end in an error.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    # Foreign bytes can make the parser fail in any way.
    except Exception as error:
        raise InputError(f"checkpoint {path} {_diagnosis(error, path, zipped=zipped)}") from error


def _is_compressed(path: Path) -> bool:
    """Whether a zip file has data as torch never writes it, which may grow without bound when it is read."""
    with suppress(Exception), zipfile.ZipFile(path) as archive:
        data = [entry for entry in archive.infolist() if re.search(r"/data(\.pkl$|/)", entry.filename)]
        return any(entry.compress_type != zipfile.ZIP_STORED for entry in data)
    return False  # damaged, as reading it will show


def _diagnosis(error: Exception, path: Path, *, zipped: bool) -> str:
    """Why `torch.load` failed, and the remedy. Its own remedy for a refused pickle is to run it: not repeated here."""
    message = str(error)
    named = re.search(r"GLOBAL (\S+)", message)
    name = named[1] if named else _first_foreign_global(path, zipped=zipped)
    if isinstance(error, pickle.UnpicklingError) and name:
        return f"is refused: it names {quoted(name)}, and reading it would run that; {SAVE_AGAIN}"
    if isinstance(error, pickle.UnpicklingError):
        return f"is damaged, or cannot be read without running code from it; {SAVE_AGAIN}"
    if "TorchScript" in message:
        return f"is a TorchScript program, not a state dict; {SAVE_AGAIN}"
    return f"is damaged or no PyTorch checkpoint: {one_line(error)}; {COPY_AGAIN}"


def _first_foreign_global(path: Path, *, zipped: bool) -> str | None:
    """The first global that does not belong to a state dict in a pickle of protocol 4 or later, which torch refuses."""
    pushed: Any = None
    memo: list[Any] = []
    strings: deque[str] = deque(maxlen=2)
    with suppress(Exception):
        for opcode, argument, _ in pickletools.genops(_pickled(path, zipped=zipped)):
            name = ".".join(strings)
            if opcode.name == "STACK_GLOBAL" and not (name.startswith(STATE_DICT_MODULES) or name in NUMPY_GLOBALS):
                return name
            if opcode.name == "MEMOIZE":
                memo.append(pushed)
                continue
            pushed = memo[argument] if isinstance(argument, int) and "GET" in opcode.name else argument
            if isinstance(pushed, str):
                strings.append(pushed)
    return None


def _pickled(path: Path, *, zipped: bool) -> bytes:
    if not zipped:
        with path.open("rb") as file:
            return file.read(MAX_SCANNED_BYTES)
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        with archive.open(name) as member:
            return member.read(MAX_SCANNED_BYTES)


def _clean(entries: Any, path: Path) -> dict[str, Tensor]:
    """The weights among the entries of a state dict, under official keys."""
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"checkpoint {path} holds no weights; {SAVE_AGAIN}")
    for key, value in entries.items():
        if not isinstance(key, str) or not _is_dense(value):
            raise InputError(
                f"checkpoint {path}: entry {quoted(key)} ({type(value).__name__}) is not a dense, named tensor; "
                f"{SAVE_AGAIN}"
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
        and not value.is_complex()
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )
