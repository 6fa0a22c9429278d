"""Only regular files are opened as data, and nothing is waited for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from toolkit.errors import InputError
from toolkit.storage.regular_file import open_regular, read_regular, readable_file


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_files_and_links_to_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"data"


def test_a_pipe_is_not_waited_for(pipe: Path) -> None:
    with pytest.raises(OSError, match="is not a regular file"):
        open_regular(pipe)
    with pytest.raises(InputError, match=r"frame .* is not a regular file; give the file itself"):
        readable_file(pipe, "frame")


def test_a_link_to_a_pipe_neither(pipe: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(pipe)
    with pytest.raises(OSError, match="is not a regular file"):
        open_regular(tmp_path / "link")


def test_folders_and_sockets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket has to be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for path in (tmp_path, Path("socket")):
            with pytest.raises(OSError, match=r"directory|No such device"):
                open_regular(path)


def test_more_bytes_than_expected(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="is larger than 4 bytes"):
        read_regular(tmp_path / "file", 4)
