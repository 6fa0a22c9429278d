"""Reading files back with clear errors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.regular_file import open_regular

MAX_JSON_BYTES = 2**24
"""A manifest or a frame has a few thousand bytes."""


def read_json(path: Path, remedy: str = "repair the file") -> Any:
    """Parsed JSON; InputError names the file and position of a fault, and the remedy."""
    try:
        with open_regular(path) as file:
            data = file.read(MAX_JSON_BYTES + 1)
        if len(data) > MAX_JSON_BYTES:
            raise InputError(f"{path} is larger than {MAX_JSON_BYTES} bytes; {remedy}")
        return json.loads(data.decode())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error!s:.200}; {remedy}") from error


def sha256_file(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
