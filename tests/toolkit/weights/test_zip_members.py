"""Where the members of a zip archive lie, if every reader finds the same."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.storage.zip_members import zip_members


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a", b"first" * 9)
        file.writestr("b", b"second" * 9, zipfile.ZIP_DEFLATED)
    return (tmp_path / "a.zip").read_bytes()


def read(data: bytes) -> dict[str, tuple[bytes, bool]]:
    found = zip_members(io.BytesIO(data))
    return {name: (data[member.start :][: member.size], member.stored) for name, member in found.items()}


def test_members_of_python(archive: bytes) -> None:
    members = read(archive)
    assert members["a"] == (b"first" * 9, True)
    assert members["b"][1] is False


def test_members_of_torch() -> None:
    """It states all sizes in 64 bits."""
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(3)}, buffer)
    members = read(buffer.getvalue())
    assert all(stored for _, stored in members.values())
    assert members["archive/data/0"][0] == torch.ones(3).numpy().tobytes()


@pytest.mark.parametrize("change", [lambda d: d + b"\0", lambda d: b"\0" + d, lambda d: d[:-1], lambda d: d[1:]])
def test_something_before_or_behind(archive: bytes, change) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(zipfile.BadZipFile):
        read(change(archive))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_damage_is_noticed_or_changes_nothing_that_python_reads_otherwise(
    archive: bytes, place: int, value: int
) -> None:
    data = bytearray(archive)
    data[place % len(data)] = value
    try:
        members = read(bytes(data))
    except zipfile.BadZipFile:
        return
    try:
        known = zipfile.ZipFile(io.BytesIO(data)).infolist()
    except (zipfile.BadZipFile, NotImplementedError):
        return
    assert [(entry.compress_size, entry.compress_type == 0) for entry in known] == [
        (len(content), stored or entry.compress_type == 0)
        for entry, (content, stored) in zip(known, members.values(), strict=True)
    ]
