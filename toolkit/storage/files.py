"""What tells files apart: their names in a folder, and digests of what they hold."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from toolkit.storage.regular_file import open_regular

MAX_NAME_BYTES = 255
"""In the usual file systems."""
MAX_HASHED_BYTES = 2**35
"""Of a file; hashing so many takes half a minute. A file with holes may say any size, and take no room on the disk."""


def is_file_name(name: str) -> bool:
    """Whether it can name a file in a folder, and nothing outside of it."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0") and len(name.encode()) <= MAX_NAME_BYTES


def sha256_file(path: Path) -> str:
    """Raises OSError for what is no regular file, or is larger than `MAX_HASHED_BYTES`."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > MAX_HASHED_BYTES:
            raise OSError(errno.EFBIG, f"is larger than {MAX_HASHED_BYTES} bytes", os.fspath(path))
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_intact(path: Path, sha256: str, size: int | None) -> bool:
    """Whether a file is the one of which these were recorded; one of another size (None: not recorded) is not read."""
    found = path.stat().st_size
    return size in (None, found) and found <= MAX_HASHED_BYTES and sha256_file(path) == sha256
