"""What tells a file from others."""

from __future__ import annotations

import hashlib
from pathlib import Path

from toolkit.storage.files import sha256_file


def test_digest_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
