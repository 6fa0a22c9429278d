"""What may be written, and what is kept."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from toolkit.bundle import MANIFEST
from toolkit.data.frames import CameraView, Command, Frame, Pose
from toolkit.data.sources import address_paths, image_files
from toolkit.errors import InputError
from toolkit.runtime.run_record import RUN_RECORD
from toolkit.storage.claims import KIND_BY_CONTENT, MARKER, Output, claim_file, claim_folder, keep_apart
from toolkit.storage.outputs import new_file, new_folder


def a_file(path: Path, **rest: object) -> Output:
    return claim_file(path, **rest)  # type: ignore[arg-type]


def a_folder(path: Path, **rest: object) -> Output:
    return claim_folder(path, "results", force=True, **rest)  # type: ignore[arg-type]


Claim = Callable[..., Output]
either = pytest.mark.parametrize("claim", [a_file, a_folder])


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


def make_link(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


@either
@pytest.mark.parametrize("make", [make_fifo, make_socket, make_link])
def test_special_files_are_not_replaced(
    claim: Claim, make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "out")
    with pytest.raises(InputError, match=r"out: it is a device, a pipe or a socket; choose a writable output"):
        claim(tmp_path / "out")


@either
@pytest.mark.parametrize("path", ["/", "/..", "//"])
def test_root_is_no_output(claim: Claim, path: str) -> None:
    with pytest.raises(InputError, match="root of the file system"):
        claim(Path(path))


@either
def test_working_folder_that_is_gone(claim: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match="cannot write out: No such file"):
        claim(Path("out"))


@either
def test_links_in_a_circle(claim: Claim, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("out")
    with pytest.raises(InputError, match=r"cannot write .*: Too many levels of symbolic links"):
        claim(tmp_path / "out")


def test_file_is_not_written_over_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory; name a file in it"):
        claim_file(tmp_path)


def test_links_are_followed(tmp_path: Path) -> None:
    """They stay, and what they lead to is replaced, or made."""
    for name in ("folder", "file", "new"):
        (tmp_path / f"link_to_{name}").symlink_to(name)
    with new_folder(claim_folder(tmp_path / "folder", "results")):
        pass
    with new_folder(claim_folder(tmp_path / "link_to_folder", "results", force=True)) as work:
        (work / "new.txt").touch()
    for name in ("link_to_file", "link_to_new"):
        with new_file(claim_file(tmp_path / name)) as file:
            file.write_text("new")
    names = {path.name: path.is_symlink() for path in tmp_path.iterdir()}
    assert names == {f"link_to_{name}": True for name in ("folder", "file", "new")} | dict.fromkeys(
        ("folder", "file", "new"), False
    )
    assert (tmp_path / "folder" / "new.txt").exists()


def test_dots_are_resolved(tmp_path: Path) -> None:
    """An output may be reached through what it replaces."""
    with new_folder(claim_folder(tmp_path / "out", "results")):
        pass
    with new_folder(claim_folder(tmp_path / "out" / ".." / "out", "results", force=True)) as work:
        (work / "new.txt").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "new.txt").exists()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a file, a link to it, another name of it, and a marker."""
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "model.pth").write_text("weights")
    (tmp_path / "data" / MARKER).touch()
    (tmp_path / "link.pth").symlink_to("data/model.pth")
    os.link(tmp_path / "data" / "model.pth", tmp_path / "same.pth")
    (tmp_path / "way").symlink_to("data")
    return tmp_path


@pytest.mark.parametrize(
    ("output", "read", "relation"),
    [
        ("data/model.pth", "data/model.pth", "is"),
        ("link.pth", "data/model.pth", "is"),
        ("data/model.pth", "link.pth", "is"),
        ("same.pth", "data/model.pth", "is"),
        ("data/deep/../model.pth", "way/model.pth", "is"),
        ("data/new.json", "data", "lies inside"),
        ("way/deep/new.json", "data", "lies inside"),
        ("new.json", ".", "lies inside"),
    ],
)
def test_file_that_is_or_lies_in_an_input(output: str, read: str, relation: str, data: Path) -> None:
    with pytest.raises(InputError, match=f"{relation} .*an input of this command; choose another output"):
        claim_file(data / output, inputs=[None, data / "absent", data / read])


@pytest.mark.parametrize(
    ("output", "read", "relation"),
    [
        ("data", "data", "is"),
        ("way", "data/", "is"),
        ("data", "data/model.pth", "contains"),
        ("data", "link.pth", "contains"),
        ("data", "way/deep", "contains"),
        ("data/deep/new", "way", "lies inside"),
        ("data/deep", "data", "lies inside"),
    ],
)
def test_folder_that_is_contains_or_lies_in_an_input(output: str, read: str, relation: str, data: Path) -> None:
    with pytest.raises(InputError, match=f"{relation} .*an input of this command; choose another output"):
        claim_folder(data / output, "results", force=True, inputs=[data / read])
    assert (data / "data" / "model.pth").read_text() == "weights"


def test_link_in_the_output_is_an_input_too(tmp_path: Path) -> None:
    (tmp_path / "model.pth").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link.pth").symlink_to("../model.pth")
    with pytest.raises(InputError, match="contains"):
        claim_folder(tmp_path / "out", "results", force=True, inputs=[tmp_path / "out" / "link.pth"])


@either
def test_output_beside_an_input(claim: Claim, data: Path) -> None:
    claim(data / "new", inputs=[data / "data", data / "link.pth"])


def test_two_outputs_are_not_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("out")
    with pytest.raises(InputError, match="link is named for two outputs; choose another for one"):
        claim_file(tmp_path / "link", others=[None, claim_file(tmp_path / "out")])
    with pytest.raises(InputError, match=r"cache\.json lies inside .*out, another output, which is made as a whole"):
        claim_file(tmp_path / "link" / "cache.json", others=[claim_folder(tmp_path / "out", "results")])


def test_force_replaces_the_same_kind(tmp_path: Path) -> None:
    with new_folder(claim_folder(tmp_path / "out", "bundle")):
        pass
    claim_folder(tmp_path / "out", "bundle", force=True)
    with pytest.raises(InputError, match="out holds bundle, not results, so --force keeps it; choose another"):
        claim_folder(tmp_path / "out", "results", force=True)


@pytest.mark.parametrize(("name", "kind"), KIND_BY_CONTENT.items())
def test_kind_of_an_earlier_version_is_told_by_its_content(name: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / MARKER).touch()
    (tmp_path / name).touch()
    claim_folder(tmp_path, kind, force=True)
    with pytest.raises(InputError, match=f"holds {kind}, not pictures, so --force keeps it"):
        claim_folder(tmp_path, "pictures", force=True)


def test_content_that_tells_the_kind() -> None:
    assert KIND_BY_CONTENT[MANIFEST] == "bundle"
    assert KIND_BY_CONTENT[RUN_RECORD] == "results"


def test_other_folders_of_earlier_versions_are_replaceable(tmp_path: Path) -> None:
    (tmp_path / MARKER).touch()
    (tmp_path / "000.jpg").touch()
    claim_folder(tmp_path, "pictures", force=True)


def test_folder_without_a_kind_is_never_replaced(tmp_path: Path) -> None:
    with new_folder(claim_folder(tmp_path / "my_op", None)) as work:
        (work / "op.py").touch()
    with pytest.raises(InputError, match="not written by this toolkit"):
        claim_folder(tmp_path / "my_op", "results", force=True)


@pytest.mark.parametrize(
    ("address", "paths"),
    [
        (None, []),
        ("data/frames", ["data/frames"]),
        ("nuscenes:data/set?version=v1.0-mini&split=mini_val", ["data/set"]),
        ("infos:val.pkl?dataroot=data/set&command=left", ["val.pkl", "data/set"]),
        ("trt-input:", []),
    ],
)
def test_paths_of_an_address(address: str | None, paths: list[str]) -> None:
    """The address itself may be a folder too."""
    assert [str(path) for path in address_paths(address) if str(path) != address or ":" not in address] == paths


def test_pictures_of_frames_are_inputs(tmp_path: Path) -> None:
    """Wherever they are."""
    image = tmp_path / "image.jpg"
    image.touch()
    view = CameraView(image, np.eye(3), Pose.from_matrix(np.eye(3), np.zeros(3)))
    pose = view.sensor2lidar
    drawn = CameraView(np.zeros((2, 2, 3), np.uint8), np.eye(3), pose)
    frame = Frame("0", "a", 0.0, {"one": view, "two": drawn}, pose, pose, Command.LEFT)
    assert list(image_files([frame])) == [image]
    with pytest.raises(InputError, match=r"image\.jpg is an input"):
        keep_apart(claim_file(image), image_files([frame]))
