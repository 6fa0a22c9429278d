"""What tells files apart: their names in a folder, and digests of what they hold."""

from __future__ import annotations

import hashlib
from pathlib import Path

from toolkit.storage.regular_file import open_regular

MAX_NAME_BYTES = 255
"""In the usual file systems."""


def is_file_name(name: str) -> bool:
    """Whether it can name a file in a folder, and nothing outside of it."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0") and len(name.encode()) <= MAX_NAME_BYTES


def sha256_file(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
