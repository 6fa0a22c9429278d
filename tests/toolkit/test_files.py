"""Outputs appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from toolkit.errors import InputError
from toolkit.files import MARKER, MAX_JSON_BYTES, new_file, new_folder, read_json, scratch_folder, sha256_file


class Interrupted(Exception):
    """Stands for whatever may go wrong while an output is written."""


def write_half(file: Path) -> None:
    file.write_text("half")
    raise Interrupted


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != MARKER)


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """An output of before."""
    with new_folder(tmp_path / "results") as work:
        (work / "old.txt").write_text("old")
    return tmp_path / "results"


def test_new_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "results"
    with new_folder(target) as work:
        (work / "a.txt").write_text("a")
        assert not target.exists()
    assert listing(tmp_path / "deep") == ["results"]
    assert listing(target) == ["a.txt"]


def test_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), new_folder(tmp_path / "results") as work:
        write_half(work / "a.txt")
    assert listing(tmp_path) == []


def test_existing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with pytest.raises(InputError, match="results already exists; choose another output or pass --force"):
        new_folder(tmp_path / "results").__enter__()


def test_force_replaces_the_whole_folder(tmp_path: Path, earlier: Path) -> None:
    with new_folder(earlier, force=True) as work:
        (work / "new.txt").write_text("new")
        assert listing(earlier) == ["old.txt"]
    assert listing(tmp_path) == ["results"]
    assert listing(earlier) == ["new.txt"]


def test_force_keeps_what_it_did_not_write(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="was not written by this toolkit"):
        new_folder(tmp_path, force=True).__enter__()
    assert listing(tmp_path) == ["mine.txt"]


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    with new_folder(tmp_path / "results") as work:
        (work / "a.txt").touch(mode=0o600)
    (tmp_path / "b.txt").touch()
    assert (tmp_path / "results" / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_failure_with_force_keeps_the_old_folder(tmp_path: Path, earlier: Path) -> None:
    with pytest.raises(Interrupted), new_folder(earlier, force=True) as work:
        write_half(work / "new.txt")
    assert listing(tmp_path) == ["results"]
    assert listing(earlier) == ["old.txt"]


def test_folder_does_not_replace_a_file(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    with pytest.raises(InputError, match="results is a file; choose another output folder"):
        new_folder(tmp_path / "results", force=True).__enter__()
    assert (tmp_path / "results").read_text() == "mine"


def test_remains_of_killed_processes_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of running processes, of other machines and of other outputs are not."""
    monkeypatch.setattr("platform.node", lambda: "here")
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = {
        f".results.here-{dead.pid}.partial": False,
        f".results.here-{os.getpid()}.partial": False,
        f".results.here-{os.getppid()}.partial": True,
        f".results.there-{dead.pid}.partial": True,
        f".others.here-{dead.pid}.partial": True,
    }
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "half.txt").touch()
    with new_folder(tmp_path / "results"):
        pass
    assert set(listing(tmp_path)) == {"results", *(name for name, kept in names.items() if kept)}


def test_unwritable_folder(tmp_path: Path) -> None:
    """Because its parent is a file, or its name too long."""
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "results", tmp_path / ("results" * 50)):
        with pytest.raises(InputError, match=r"cannot write .*results: .*; choose a writable output folder"):
            new_folder(path).__enter__()
    assert listing(tmp_path) == ["file"]


def test_scratch_folder_is_gone_afterwards(tmp_path: Path) -> None:
    """Whatever happens meanwhile; it lies beside the output."""

    def interrupted() -> None:
        with scratch_folder(tmp_path / "m.engine") as folder:
            (folder / "model").touch()
            assert folder.parent == tmp_path
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_scratch_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"cannot write .*m\.engine: .*; choose a writable output"),
        scratch_folder(tmp_path / "file" / "m.engine"),
    ):
        pass


def test_new_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    with new_file(target) as work:
        work.write_text("a")
        assert not target.exists()
    assert listing(tmp_path / "deep") == ["a.txt"]


def test_new_file_keeps_the_suffix(tmp_path: Path) -> None:
    """Some writers choose the format by it, or add one that is missing."""
    with new_file(tmp_path / "a.npz") as work:
        assert work.suffix == ".npz"
        work.touch()


def test_new_file_replaces_an_old_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with new_file(tmp_path / "a.txt") as work:
        work.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_failed_file_leaves_nothing_new(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(Interrupted), new_file(tmp_path / "a.txt") as work:
        write_half(work)
    assert listing(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_unwritable_file(tmp_path: Path) -> None:
    """Here because its parent is a file, or itself a folder."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"cannot write .*a\.txt: .*; choose a writable output"):
        new_file(tmp_path / "file" / "a.txt").__enter__()
    with pytest.raises(InputError, match=r"cannot write .*: Is a directory"), new_file(tmp_path) as work:
        work.write_text("new")
    assert listing(tmp_path) == ["file"]


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
