"""Films are readable again, frame by frame, at the pace of the drive."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import cv2
import numpy as np
import pytest
from PIL import Image, ImageSequence

from toolkit.errors import InputError
from toolkit.visualize import video
from toolkit.visualize.canvas import Picture, blank
from toolkit.visualize.video import frame_rate, video_path, write_video


def pictures(count: int = 5, width: int = 320, height: int = 180) -> Iterator[Picture]:
    """From dark to bright."""
    for i in range(count):
        yield blank(width, height, (40 * i, 40 * i, 40 * i))


def test_mp4(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed")
    assert video_path(tmp_path / "drive.mp4") == tmp_path / "drive.mp4"
    write_video(pictures(), tmp_path / "drive.mp4", 4.0)
    film = cv2.VideoCapture(str(tmp_path / "drive.mp4"))
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(4.0)
    frames = [film.read()[1] for _ in range(int(film.get(cv2.CAP_PROP_FRAME_COUNT)))]
    assert [image.shape for image in frames] == [(180, 320, 3)] * 5
    assert [round(float(image.mean()), -1) for image in frames] == [0, 40, 80, 120, 160]
    assert (b"avc1" in (tmp_path / "drive.mp4").read_bytes()) is True
    assert list(tmp_path.iterdir()) == [tmp_path / "drive.mp4"]


def test_odd_sizes_lose_a_row_and_a_column(tmp_path: Path) -> None:
    """The usual chroma format has even sizes alone."""
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed")
    write_video(pictures(width=321, height=181), tmp_path / "drive.mp4", 2.0)
    film = cv2.VideoCapture(str(tmp_path / "drive.mp4"))
    assert (film.get(cv2.CAP_PROP_FRAME_WIDTH), film.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (320, 180)


def test_gif(tmp_path: Path) -> None:
    write_video(pictures(width=1920, height=1080), tmp_path / "drive.gif", 2.0)
    with Image.open(tmp_path / "drive.gif") as film:
        assert (film.size, film.info["duration"]) == ((960, 540), 500)
        assert sum(1 for _ in ImageSequence.Iterator(film)) == 5


def test_without_ffmpeg_a_gif_takes_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    warnings: list[str] = []
    path = video_path(tmp_path / "drive.mp4", warnings.append)
    write_video(pictures(), path, 2.0)
    assert [path.name for path in tmp_path.iterdir()] == ["drive.gif"]
    (warning,) = warnings
    assert "so the video becomes a GIF" in warning
    assert "pip install 'uniad-toolkit[video]'" in warning


@pytest.mark.parametrize("name", ["drive.mp4", "drive.gif"])
def test_no_picture_is_no_video(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no frame to show"):
        write_video(iter(()), tmp_path / name, 2.0)
    assert not list(tmp_path.iterdir())


def test_another_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a video is written as \.mp4 or \.gif"):
        write_video(pictures(), tmp_path / "drive.avi", 2.0)
    with pytest.raises(InputError, match=r"a video is written as \.mp4 or \.gif"):
        video_path(tmp_path / "drive.avi")


@pytest.mark.parametrize("name", ["drive.mp4", "drive.gif"])
def test_a_place_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose a writable output"):
        write_video(pictures(), tmp_path / "file" / name, 2.0)


def test_a_picture_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def failing() -> Iterator[Picture]:
        yield from pictures(2)
        raise InputError("image missing")

    with pytest.raises(InputError, match="image missing"):
        write_video(failing(), tmp_path / "drive.mp4", 2.0)
    assert not list(tmp_path.iterdir())


def test_a_stop_while_ffmpeg_starts_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would make the file after ours was removed."""
    started: list[subprocess.Popen[bytes]] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def start_and_stop(width: int, height: int, fps: float, file: Path) -> subprocess.Popen[bytes]:
        started.append(start_ffmpeg(width, height, fps, file))
        signal.raise_signal(signal.SIGTERM)
        return started[0]

    start_ffmpeg = video._start_ffmpeg
    monkeypatch.setattr(video, "_start_ffmpeg", start_and_stop)
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            write_video(pictures(), tmp_path / "drive.mp4", 2.0)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert started[0].returncode is not None
    assert not list(tmp_path.iterdir())


def test_the_rate_is_that_of_the_drive() -> None:
    """The usual step within a scene; scene changes say nothing."""
    assert frame_rate([("a", 0.0), ("a", 0.5), ("a", 1.0), ("b", 0.0), ("b", 0.5)]) == pytest.approx(2)
    assert frame_rate(("a", t) for t in np.arange(0, 1, 0.1)) == pytest.approx(10)
    assert frame_rate([("a", 3.0)]) == 2
    assert frame_rate([("a", 0.0), ("a", 0.0)]) == 60
