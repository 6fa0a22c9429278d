"""`uniad-toolkit visualize` from results and frames to pictures, video and recording; and what it refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from tests.visualize.drives import CONFIG, frame, full_result
from toolkit.bundle import MANIFEST
from toolkit.cli.main import run
from toolkit.data.frame_folder import write_frame
from toolkit.runtime.result_writer import write_result
from toolkit.runtime.results import FrameResult, PlanResult
from toolkit.visualize.frame_picture import draw_result

pytestmark = pytest.mark.thorough

NAMES = ("0001", "0002", "0003")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three frames, a fifth of a second apart."""
    folder = tmp_path_factory.mktemp("results")
    for i, name in enumerate(NAMES):
        write_result(full_result(name, 0.2 * i), folder)
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frame folder that they are of."""
    folder = tmp_path_factory.mktemp("frames")
    for i, name in enumerate(NAMES):
        write_frame(frame(name, 0.2 * i), folder)
    return folder


def test_pictures_and_video(results: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed")
    output, video = tmp_path / "pictures", tmp_path / "drive.mp4"
    options = ["--frames", str(frames), "-o", str(output), "--video", str(video), "--key-frames-only"]
    assert run(["visualize", str(results), *options]) == 0
    printed = capsys.readouterr().out
    assert f"wrote 3 pictures: {output}" in printed
    assert f"wrote video: {video}" in printed
    assert sorted(path.name for path in output.glob("*.*")) == [".uniad-toolkit", *(f"{name}.jpg" for name in NAMES)]
    image = cv2.imread(str(output / "0001.jpg"))
    assert image is not None
    assert image.shape == (1080, 1920, 3)
    film = cv2.VideoCapture(str(video))
    properties = (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS)
    assert [film.get(one) for one in properties] == [3, 1920, 1080, 5]
    assert run(["visualize", str(results), *options[:-1], "--force"]) == 0
    smooth = cv2.VideoCapture(str(video))
    assert [smooth.get(one) for one in properties] == [5, 1920, 1080, 10], "of the same length"


def test_without_frames_the_view_from_above(results: Path, tmp_path: Path) -> None:
    """A video may lie in the folder of the pictures."""
    assert run(["visualize", str(results), "-o", str(tmp_path / "o"), "--video", str(tmp_path / "o/drive.gif")]) == 0
    assert sorted(path.name for path in (tmp_path / "o").glob("*.[pg]*")) == [*(f"{n}.png" for n in NAMES), "drive.gif"]


def test_objects_of_a_low_score_can_be_left_out(results: Path, tmp_path: Path) -> None:
    """All have 0.8: the picture is that without objects."""
    for name, score in (("all", "0.8"), ("none", "0.81")):
        assert run(["visualize", str(results), "-o", str(tmp_path / name), "--min-score", score]) == 0
    pictures = [cv2.imread(str(tmp_path / name / "0001.png")) for name in ("all", "none")]
    bare = draw_result(replace(full_result("0001", 0.0), boxes=()))[..., ::-1]
    assert (pictures[0] != pictures[1]).any()
    np.testing.assert_array_equal(pictures[1], bare)


def test_without_ffmpeg_the_line_says_so(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert run(["visualize", str(results), "-o", str(tmp_path / "o"), "--video", str(tmp_path / "drive.mp4")]) == 0
    captured = capsys.readouterr()
    assert "warning: there is no ffmpeg" in captured.err
    assert f"wrote video: {tmp_path / 'drive.gif'}" in captured.out


def test_a_recording(results: Path, frames: Path, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed, or does not fit NumPy", exc_type=ImportError)
    recording = tmp_path / "drive.rrd"
    options = ["--frames", str(frames), "-o", str(tmp_path / "o"), "--rerun", str(recording)]
    assert run(["visualize", str(results), *options]) == 0
    assert recording.stat().st_size > 10_000


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle whose second frame goes wrong; it needs no network here."""

    def made_up(_bundle: Any, _session: Any, _submodules: Any, source: Any) -> Iterator[FrameResult]:
        for one in source:
            made = full_result(one.name, one.timestamp)
            lost = PlanResult(np.full((6, 2), np.nan, np.float32), 0.5)
            yield replace(made, plan=lost) if one.name == "0002" else made

    opened = SimpleNamespace(config=CONFIG)
    monkeypatch.setattr("toolkit.bundle.Bundle.read", lambda _path, _warn: opened)
    monkeypatch.setattr("toolkit.cli.visualize.open_session", lambda *_, **__: None)
    monkeypatch.setattr("toolkit.runtime.sequence.run_sequence", made_up)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / MANIFEST).touch()
    return tmp_path / "bundle"


def test_a_bundle_is_run_over_the_frames(
    bundle: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A frame whose results are not finite is left out, and the exit status says so."""
    assert run(["visualize", str(bundle), "--frames", str(frames), "-o", str(tmp_path / "o")]) == 1
    captured = capsys.readouterr()
    assert "warning: frame 0002: the network's results hold values that are not finite; left out" in captured.err
    assert "wrote 2 pictures" in captured.out
    assert sorted(path.name for path in (tmp_path / "o").glob("*.jpg")) == ["0001.jpg", "0003.jpg"]


def test_a_bundle_needs_frames(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["visualize", str(bundle), "-o", str(tmp_path / "o")]) == 2
    assert "is a bundle; say with --frames what to run it on" in capsys.readouterr().err


def no_results(results: Path, frames: Path) -> None:
    for path in results.glob("*.json"):
        path.unlink()


def other_frames(results: Path, frames: Path) -> None:
    (frames / "0003.json").unlink()


def other_drive(results: Path, frames: Path) -> None:
    path = frames / "0002.json"
    path.write_text(path.read_text().replace('"left"', '"right"'))


def no_image(results: Path, frames: Path) -> None:
    (frames / "images" / "0002_CAM_BACK.jpg").unlink()


def cut_image(results: Path, frames: Path) -> None:
    path = frames / "images" / "0003_CAM_BACK.jpg"
    path.write_bytes(path.read_bytes()[:-100])


def frames_for_results(results: Path, frames: Path) -> None:
    (results / "0001.json").write_text((frames / "0001.json").read_text())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_results, "holds no result (*.json)"),
        (other_frames, "there is no frame 0003, of which there is a result"),
        (other_drive, "frame 0002: the result is of scene monday at 0.200 s with command left, and"),
        (no_image, "0002_CAM_BACK.jpg does not exist"),
        (cut_image, "0003_CAM_BACK.jpg: the JPEG file is cut off"),
        (frames_for_results, "0001.json: is no result of this version"),
    ],
)
def test_what_does_not_belong_together(
    damage: Callable[[Path, Path], None],
    message: str,
    results: Path,
    frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line, and nothing is written."""
    for name, folder in (("results", results), ("frames", frames)):
        for path in sorted(folder.rglob("*.*")):
            copy = tmp_path / name / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    damage(tmp_path / "results", tmp_path / "frames")
    options = ["--frames", str(tmp_path / "frames"), "-o", str(tmp_path / "o"), "--video", str(tmp_path / "a.gif")]
    assert run(["visualize", str(tmp_path / "results"), *options]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "results"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--video", "drive.avi"], "a video is written as .mp4 or .gif"),
        (["--rerun", "drive.bin"], "is written as .rrd"),
        (["--frames", "nowhere"], "nowhere: is not a folder"),
    ],
)
def test_options(
    options: list[str], message: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["visualize", str(results), "-o", str(tmp_path / "o"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_an_output_that_cannot_be_written(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run(["visualize", str(results), "-o", str(tmp_path / "file" / "o")]) == 2
    assert "choose a writable output folder" in capsys.readouterr().err
