"""Reading JSON files: within bounds, and what is wrong is said in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from toolkit.errors import InputError
from toolkit.storage.json_file import MAX_JSON_BYTES, read_format, read_json, refusing
from toolkit.storage.typed import Misfit


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


def test_a_name_stands_once_in_an_object(tmp_path: Path) -> None:
    """Otherwise two readers of the file could see two things in it."""
    (tmp_path / "a.json").write_text('{"a": {"b": 1, "c": 2, "b": 3}}')
    with pytest.raises(InputError, match=r"a\.json is not valid JSON: an object has the name 'b' twice; repair the fi"):
        read_json(tmp_path / "a.json")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"a\.json: is not a regular file"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 2}', '{"format": "1"}', '{"format": true}', "1"])
def test_another_format(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json: format is not 1; build again with this version"):
        read_format(tmp_path / "a.json", 1, "build again")


def test_the_format_is_no_field(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"format": 1, "a": 2}')
    assert read_format(tmp_path / "a.json", 1, "build again") == {"a": 2}


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("$", r"^a\.json: too large; write it again$"),
        ("$.files.functional", r"^a\.json is damaged in 'files': \$\.files\.functional: too large; write it again$"),
        ("$[3].b", r"^a\.json is damaged in '': \$\[3\]\.b: too large; write it again$"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_place_and_remedy(place: str, message: str) -> None:
    with (
        pytest.raises(InputError, match=message),
        refusing(Path("a.json"), "write it again", "is damaged in {field!r}"),
    ):
        raise Misfit(place, "too large")
