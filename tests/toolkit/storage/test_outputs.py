"""Outputs appear whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from toolkit.errors import InputError
from toolkit.storage.claims import MARKER, FolderOutput, claim_file, claim_folder, unguarded_file
from toolkit.storage.moves import exchange
from toolkit.storage.outputs import new_file, new_files, new_folder, scratch_folder

pytestmark = pytest.mark.thorough


class Interrupted(Exception):
    """Stands for whatever may go wrong while an output is written."""


def write_half(file: Path) -> None:
    file.write_text("half")
    raise Interrupted


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != MARKER)


def claimed(path: Path) -> FolderOutput:
    return claim_folder(path, "results", force=True)


def write_while(happens: Callable[[], object], *outputs: FolderOutput | Path) -> None:
    """Write a folder, or files, while something else happens."""
    if isinstance(outputs[0], FolderOutput):
        with new_folder(outputs[0]) as folder:
            (folder / "new.txt").touch()
            happens()
        return
    with new_files(*(output for output in outputs if isinstance(output, Path))) as works:
        for work in works:
            work.write_text("new")
        happens()


def write_at_once(path: Path, start: Barrier) -> None:
    """Write a folder whose file tells the process, at the same time as another process does; exit with 2 on failure."""
    try:
        with new_folder(claimed(path)) as work:
            (work / f"{os.getpid()}.txt").touch()
            start.wait(10)
    except InputError:
        os._exit(2)
    os._exit(0)


def replace_folder(path: Path) -> None:
    """As a user might: the old one gets another name."""
    path.rename(path.with_name("former"))
    path.mkdir()
    (path / "mine.txt").touch()


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """An output of before."""
    with new_folder(claim_folder(tmp_path / "results", "results")) as work:
        (work / "old.txt").write_text("old")
    return tmp_path / "results"


def test_new_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "results"
    with new_folder(claim_folder(target, "results")) as work:
        (work / "a.txt").write_text("a")
        assert not target.exists()
    assert listing(tmp_path / "deep") == ["results"]
    assert listing(target) == ["a.txt"]


def test_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), new_folder(claim_folder(tmp_path / "results", "results")) as work:
        write_half(work / "a.txt")
    assert listing(tmp_path) == []


def test_existing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with pytest.raises(InputError, match="results already exists; choose another output or pass --force"):
        claim_folder(tmp_path / "results", "results")


def test_force_replaces_the_whole_folder(tmp_path: Path, earlier: Path) -> None:
    with new_folder(claim_folder(earlier, "results", force=True)) as work:
        (work / "new.txt").write_text("new")
        assert listing(earlier) == ["old.txt"]
    assert listing(tmp_path) == ["results"]
    assert listing(earlier) == ["new.txt"]


def test_force_keeps_what_it_did_not_write(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="was not written by this toolkit"):
        claim_folder(tmp_path, "results", force=True)
    assert listing(tmp_path) == ["mine.txt"]


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    with new_folder(claim_folder(tmp_path / "results", "results")) as work:
        (work / "a.txt").touch(mode=0o600)
    (tmp_path / "b.txt").touch()
    assert (tmp_path / "results" / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_files_with_another_name_keep_their_permissions(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch(mode=0o400)
    with new_folder(claim_folder(tmp_path / "results", "results")) as work:
        (work / "a.txt").hardlink_to(tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").stat().st_mode & 0o777 == 0o400


def test_failure_with_force_keeps_the_old_folder(tmp_path: Path, earlier: Path) -> None:
    with pytest.raises(Interrupted), new_folder(claim_folder(earlier, "results", force=True)) as work:
        write_half(work / "new.txt")
    assert listing(tmp_path) == ["results"]
    assert listing(earlier) == ["old.txt"]


def test_folder_does_not_replace_a_file(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    with pytest.raises(InputError, match="results is a file; choose another output folder"):
        claim_folder(tmp_path / "results", "results", force=True)
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
    with new_folder(claim_folder(tmp_path / "results", "results")):
        pass
    assert set(listing(tmp_path)) == {"results", *(name for name, kept in names.items() if kept)}


def test_remains_of_files_are_removed_likewise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "here")
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in (f".v.gif.here-{dead.pid}.partial.gif", f".v.gif.here-{os.getppid()}.partial.gif", "v.gif"):
        (tmp_path / name).touch()
    claim_file(tmp_path / "v.gif")
    assert listing(tmp_path) == [f".v.gif.here-{os.getppid()}.partial.gif", "v.gif"]


def test_unwritable_folder(tmp_path: Path) -> None:
    """Because its parent is a file, or its name too long."""
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "results", tmp_path / ("results" * 50)):
        with pytest.raises(InputError, match=r"cannot write .*results: .*; choose a writable output folder"):
            claim_folder(path, "results")
    assert listing(tmp_path) == ["file"]


def test_scratch_folder_is_gone_afterwards(tmp_path: Path) -> None:
    """Whatever happens meanwhile; it lies beside the output, and is closed to others."""

    def interrupted() -> None:
        with scratch_folder(tmp_path / "m.engine") as folder:
            (folder / "model").touch()
            assert folder.parent == tmp_path
            assert folder.stat().st_mode & 0o077 == 0
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


def test_files_appear_together(tmp_path: Path) -> None:
    write_while(lambda: None, tmp_path / "one", tmp_path / "two")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"one": "new", "two": "new"}


def test_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    """Also when it is the last one whose name is taken meanwhile."""
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    one.write_text("old")
    with pytest.raises(InputError, match="three was made or changed"):
        write_while(lambda: three.write_text("mine"), one, two, three)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"one": "old", "three": "mine"}


@pytest.fixture(params=["atomic", "step by step"])
def renaming(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Linux's system call, and as where it is missing."""
    if request.param != "atomic":
        monkeypatch.setattr("toolkit.storage.moves._renameat2", lambda *_: False)


@pytest.mark.usefixtures("renaming")
class TestWhatAppearsMeanwhile:
    """It is kept, and the command fails."""

    @pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["folder", "file"])
    def test_in_place_of_a_folder(self, make: Callable[[Path], None], tmp_path: Path) -> None:
        target = tmp_path / "results"
        with pytest.raises(InputError, match="results was made or changed by someone else meanwhile, and is kept"):
            write_while(lambda: make(target), claimed(target))
        assert listing(tmp_path) == ["results"]
        assert target.is_file() or listing(target) == []

    def test_beside_the_former_folder(self, tmp_path: Path, earlier: Path) -> None:
        """Someone renamed the one and made another."""
        with pytest.raises(InputError, match="made or changed"):
            write_while(lambda: replace_folder(earlier), claimed(earlier))
        assert listing(tmp_path) == ["former", "results"]
        assert listing(earlier) == ["mine.txt"]

    def test_in_the_former_folder(self, earlier: Path) -> None:
        with pytest.raises(InputError, match="made or changed"):
            write_while((earlier / "mine.txt").touch, claimed(earlier))
        assert listing(earlier) == ["mine.txt", "old.txt"]

    def test_in_place_of_a_file(self, tmp_path: Path) -> None:
        target = tmp_path / "a.txt"
        for _ in ("a new one", "another one"):
            with pytest.raises(InputError, match=r"a\.txt was made or changed"):
                write_while(lambda: target.write_text("mine"), target)
            assert target.read_text() == "mine"
            assert listing(tmp_path) == ["a.txt"]

    def test_at_the_last_moment(self, tmp_path: Path, earlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Between the look at the name and the renaming: it is put back."""

        def exchange_late(work: Path, path: Path) -> None:
            if not (tmp_path / "former").exists():
                replace_folder(path)
            exchange(work, path)

        monkeypatch.setattr("toolkit.storage.outputs.exchange", exchange_late)
        with pytest.raises(InputError, match="made or changed"):
            write_while(lambda: None, claimed(earlier))
        assert listing(tmp_path) == ["former", "results"]
        assert listing(earlier) == ["mine.txt"]

    def test_is_not_missed_when_it_goes(self, earlier: Path) -> None:
        write_while(lambda: shutil.rmtree(earlier), claimed(earlier))
        assert listing(earlier) == ["new.txt"]

    def test_is_nothing_as_a_rule(self, tmp_path: Path, earlier: Path) -> None:
        write_while(lambda: None, claimed(earlier))
        assert listing(tmp_path) == ["results"]
        assert listing(earlier) == ["new.txt"]

    @pytest.mark.parametrize("before", [False, True], ids=["new", "replaced"])
    def test_is_the_output_of_another_process(self, before: bool, tmp_path: Path) -> None:
        """Of two that write one output at the same time, one succeeds."""
        if before:
            write_while(lambda: None, claimed(tmp_path / "results"))
        context = multiprocessing.get_context("fork")
        for _ in range(5):
            start = context.Barrier(2)
            writers = [context.Process(target=write_at_once, args=(tmp_path / "results", start)) for _ in "ab"]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            assert sorted(writer.exitcode or 0 for writer in writers) == [0, 2]
            [winner] = [writer.pid for writer in writers if writer.exitcode == 0]
            assert listing(tmp_path / "results") == [f"{winner}.txt"]
            assert listing(tmp_path) == ["results"]
            if not before:
                shutil.rmtree(tmp_path / "results")


def test_former_output_that_was_put_aside_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where swapping names takes several steps, a process can be killed between them."""
    monkeypatch.setattr("platform.node", lambda: "here")
    dead = subprocess.Popen(["true"])
    dead.wait()
    aside = tmp_path / f".results.here-{dead.pid}.partial.old"
    aside.mkdir()
    (aside / "old.txt").touch()
    (aside / MARKER).touch()
    claim_folder(tmp_path / "results", "results", force=True)
    assert listing(tmp_path) == ["results"]
    aside.mkdir()
    claim_folder(tmp_path / "results", "results", force=True)
    assert listing(tmp_path) == ["results"]
    assert listing(tmp_path / "results") == ["old.txt"]


def test_shared_file_is_written_by_whoever_comes_last(tmp_path: Path) -> None:
    """As those of a cache are."""
    with new_file(unguarded_file(tmp_path / "a.cubin", shared=True)) as work:
        work.write_text("last")
        (tmp_path / "a.cubin").write_text("first")
    assert (tmp_path / "a.cubin").read_text() == "last"
