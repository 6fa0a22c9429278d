"""Files are read back with clear errors."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from toolkit.errors import InputError
from toolkit.files import MAX_JSON_BYTES, read_json, sha256_file


def test_json_faults_are_located(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*a\.json: No such file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"a": 1,\n "b": }')
    with pytest.raises(InputError, match=r"a\.json is not valid JSON: .*line 2 column 7"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputError, match=r"a\.json is not valid JSON: 'utf-8' codec .*; convert again"):
        read_json(tmp_path / "a.json", "convert again")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "1" * 5000, " " * (MAX_JSON_BYTES + 1)], ids=["depth", "digits", "size"]
)
def test_json_is_bounded(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json is (not valid JSON: .*|larger than \d+ bytes); repair the file"):
        read_json(tmp_path / "a.json")


def test_digest_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
