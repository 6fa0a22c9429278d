"""Reading the files of a checkpoint: one of PyTorch or safetensors, or an index and the parts that it names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file

from toolkit.errors import InputError
from toolkit.storage.files import is_file_name, sha256_file
from toolkit.storage.json_file import read_json, refusing
from toolkit.storage.regular_file import open_regular, readable_file
from toolkit.storage.typed import decode
from toolkit.text import one_line, quoted
from toolkit.weights.torch_file import COPY_AGAIN, SAVE_AGAIN, read_torch_file

MAX_BYTES = 2**33
"""Of all files together; those of UniAD-tiny have half a gigabyte."""
MAX_PARTS = 1000
INDEX_ENDING = ".index.json"
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)")
_INDEX_REMEDY = "give the index that was saved with the parts"


@dataclass(frozen=True)
class _Index:
    """Which part holds each entry, by the names of files in the index's own folder."""

    weight_map: dict[str, str]


@dataclass(frozen=True)
class Stored:
    """What a checkpoint's files hold, their size in bytes, and their digest; of several files that of their digests."""

    content: Any
    bytes: int
    sha256: str


def checkpoint_files(path: Path) -> list[Path]:
    """The file itself and, if it is an index, the parts that it names. Raises InputError for a faulty index."""
    return [path, *_parts(_read_index(path), path)] if _is_index(path) else [path]


def read_stored(path: Path) -> Stored:
    """A checkpoint as it was saved; one in parts as one `state_dict`.

    Raises InputError for files that are missing, damaged, too large or foreign, or that would run code.
    """
    part = _PART.fullmatch(path.name)
    if part and int(part[3]) > 1:
        index = f"{part[1]}{part[4]}{INDEX_ENDING}"
        raise InputError(f"checkpoint {path} is part {int(part[2])} of {int(part[3])}; give their index, {index}")
    files = checkpoint_files(path)
    size = sum(readable_file(file, "checkpoint").stat().st_size for file in files)
    if size > MAX_BYTES:
        raise InputError(f"checkpoint {path} is larger than {MAX_BYTES} bytes; {SAVE_AGAIN}")
    content = _join_parts(path, files[1:]) if _is_index(path) else _read_file(path)
    digests = [sha256_file(file) for file in files]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return Stored(content, size, digest)


def _join_parts(path: Path, files: Sequence[Path]) -> dict[str, Any]:
    parts = {file.name: _entries(_read_file(file), file) for file in files}
    joined = {}
    for key, part in _read_index(path).weight_map.items():
        if key not in parts[part]:
            raise InputError(f"checkpoint {path}: {part} has no entry {quoted(key)}; copy index and parts again")
        joined[key] = parts[part][key]
    return {"state_dict": joined}


def _is_index(path: Path) -> bool:
    return path.name.endswith(INDEX_ENDING)


def _read_index(path: Path) -> _Index:
    document = read_json(readable_file(path, "checkpoint"), _INDEX_REMEDY)
    with refusing(path, _INDEX_REMEDY, "is no index of a checkpoint's parts"):
        return decode(_Index, document, ignored=("metadata",))


def _parts(index: _Index, path: Path) -> list[Path]:
    names = sorted(set(index.weight_map.values()))
    bad = [name for name in names if not is_file_name(name)]
    if bad or not 0 < len(names) <= MAX_PARTS:
        found = f"names {quoted(bad[0])}, which is no file beside it" if bad else f"names {len(names)} parts"
        raise InputError(f"checkpoint {path} {found}; {_INDEX_REMEDY}")
    return [path.parent / name for name in names]


def _entries(content: Any, path: Path) -> Mapping[Any, Any]:
    entries = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        raise InputError(f"checkpoint {path} holds no weights; {SAVE_AGAIN}")
    return entries


def _read_file(path: Path) -> Any:
    with open_regular(path) as file:
        start = file.read(16)
    if start[8:9] == b"{":
        return _read_safetensors(path)
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return read_torch_file(path, zipped=start.startswith(b"PK"))
    raise InputError(
        f"checkpoint {path} is neither a PyTorch nor a safetensors file: it starts with {quoted(start)}; {COPY_AGAIN}"
    )


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata()
        return {"state_dict": load_file(path), "meta": meta}
    # Foreign bytes can make the parser fail in any way.
    except Exception as error:
        raise InputError(f"checkpoint {path} is a damaged safetensors file: {one_line(error)}; {COPY_AGAIN}") from error
