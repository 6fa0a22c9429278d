"""Bad input to the commands: one clear line, exit code 2, nothing left behind, never a traceback."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from toolkit.bundle import Bundle
from toolkit.cli.main import run
from toolkit.synthetic.dataset import DriveSettings
from toolkit.synthetic.frames import write_drive

pytestmark = pytest.mark.slow

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    write_drive(folder / "dataroot", folder / "frames", DriveSettings(scenes=2, keyframes=2))
    return folder / "frames"


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., None]:
    """Check that a command fails with exit 2 and one line that holds the given words, and leaves nothing behind."""

    def check(arguments: Sequence[object], *words: str) -> None:
        before = sorted(tmp_path.rglob("*"))
        assert run([str(argument) for argument in arguments]) == 2
        message = capsys.readouterr().err.strip()
        assert message.startswith("error: ")
        assert "Traceback" not in message
        for word in words:
            assert word in message, message
        assert sorted(tmp_path.rglob("*")) == before

    return check


class Malicious:
    """Unpickling this would run a command."""

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.system, ("touch /tmp/uniad-toolkit-was-here",)


def edit(frame: int, change: Callable[[dict[str, Any]], object]) -> Damage:
    """Change the JSON of a frame."""

    def damage(folder: Path) -> None:
        path = sorted(folder.glob("*.json"))[frame]
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return damage


def picture(folder: Path) -> Path:
    return sorted((folder / "images").rglob("*.jpg"))[0]


FRAME_FAULTS: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "five cameras": (edit(0, lambda v: v["cameras"].pop("CAM_BACK")), ("CAM_BACK",)),
    "corrupt jpg": (lambda f: picture(f).write_bytes(b"\xff\xd8 not a picture"), (".jpg",)),
    "wrong size": (lambda f: cv2.imwrite(str(picture(f)), np.zeros((90, 160, 3), np.uint8)), ("1600x900", "160x90")),
    "non-finite pose": (
        edit(1, lambda v: v["ego2global"].__setitem__("translation", [0, float("nan"), 0])),
        ("ego2global",),
    ),
    "time backwards": (edit(1, lambda v: v.__setitem__("timestamp", -1.0)), ("timestamp",)),
}


@pytest.mark.parametrize("fault", FRAME_FAULTS)
def test_frames(fault: str, bundle_a: Bundle, frames: Path, tmp_path: Path, refused: Callable[..., None]) -> None:
    damage, words = FRAME_FAULTS[fault]
    shutil.copytree(frames, tmp_path / "frames")
    damage(tmp_path / "frames")
    refused(["run", bundle_a.path, tmp_path / "frames", "-o", tmp_path / "out"], *words)


def save_malicious(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Malicious()}))


CHECKPOINT_FAULTS: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "missing": (lambda path: None, ("seed.pth",)),
    "foreign": (lambda path: path.write_text("this is no checkpoint"), ("seed.pth",)),
    "malicious": (save_malicious, ("system",)),
}


@pytest.mark.parametrize("fault", CHECKPOINT_FAULTS)
def test_checkpoints(fault: str, tmp_path: Path, refused: Callable[..., None]) -> None:
    damage, words = CHECKPOINT_FAULTS[fault]
    damage(tmp_path / "seed.pth")
    np.save(tmp_path / "anchors.npy", np.zeros((4, 6, 12, 2), np.float32))
    refused(
        ["convert", tmp_path / "seed.pth", "--motion-anchors", tmp_path / "anchors.npy", "-o", tmp_path / "out"], *words
    )
    assert not Path("/tmp/uniad-toolkit-was-here").exists()


def test_misshaped_tensor(state_dict_a: dict[str, torch.Tensor], tmp_path: Path, refused: Callable[..., None]) -> None:
    key = "planning_head.mlp_fuser.0.weight"
    torch.save({"state_dict": state_dict_a | {key: torch.zeros(256, 700)}}, tmp_path / "seed.pth")
    np.save(tmp_path / "anchors.npy", np.zeros((4, 6, 12, 2), np.float32))
    arguments = ["convert", tmp_path / "seed.pth", "--motion-anchors", tmp_path / "anchors.npy", "-o", tmp_path / "out"]
    refused(arguments, key, "700", "768")


def test_anchors(tmp_path: Path, refused: Callable[..., None]) -> None:
    (tmp_path / "anchors.pkl").write_bytes(b"no pickle")
    torch.save({}, tmp_path / "seed.pth")
    refused(
        ["convert", tmp_path / "seed.pth", "--motion-anchors", tmp_path / "anchors.pkl", "-o", tmp_path / "out"],
        "anchors.pkl",
    )


def test_existing_bundle_is_kept(bundle_a: Bundle, tmp_path: Path, refused: Callable[..., None]) -> None:
    (tmp_path / "out").mkdir()
    refused(["convert", tmp_path / "seed.pth", "-o", tmp_path / "out"], "already exists", "--force")


def test_unwritable_output(bundle_a: Bundle, frames: Path, tmp_path: Path, refused: Callable[..., None]) -> None:
    (tmp_path / "file").write_text("")
    refused(["run", bundle_a.path, frames, "-o", tmp_path / "file" / "out"], "cannot write")


def test_folder_that_is_no_bundle(tmp_path: Path, refused: Callable[..., None]) -> None:
    (tmp_path / "folder").mkdir()
    refused(["run", tmp_path / "folder", tmp_path / "folder", "-o", tmp_path / "out"], "not a bundle")
