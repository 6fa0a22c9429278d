"""What a file is, whatever its name."""

from __future__ import annotations

import hashlib
from pathlib import Path

from toolkit.regular_file import open_regular


def sha256_file(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
