"""What tells a file from others."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from toolkit.storage.files import is_intact, sha256_file

ABC = hashlib.sha256(b"abc").hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(b"abc")
    return tmp_path / "a"


def test_digest_of_a_file(file: Path) -> None:
    assert sha256_file(file) == ABC


def test_file_is_the_one_that_was_recorded(file: Path) -> None:
    """By size and digest, or by the digest alone where no size was recorded."""
    assert is_intact(file, ABC, 3)
    assert is_intact(file, ABC, None)
    assert not is_intact(file, ABC, 4)
    file.write_bytes(b"abd")
    assert not is_intact(file, ABC, 3)


@pytest.mark.parametrize("size", [3, None, 2**42])
def test_file_of_holes_is_not_read(file: Path, size: int | None) -> None:
    os.truncate(file, 2**42)
    assert not is_intact(file, ABC, size)
    with pytest.raises(OSError, match="is larger than 34359738368 bytes"):
        sha256_file(file)
