"""Pictures as a film: H.264 through ffmpeg where there is one, else a GIF through Pillow."""

from __future__ import annotations

import logging
import statistics
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import chain, pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from toolkit.errors import InputError
from toolkit.stops import stops_held
from toolkit.storage.claims import FileOutput
from toolkit.storage.outputs import new_file
from toolkit.text import one_line
from toolkit.visualize.canvas import Picture

logger = logging.getLogger(__name__)

DEFAULT_RATE = 2.0
"""Frames per second of nuScenes' key frames."""
SMOOTH_RATE = 10.0
"""Pictures per second of a video that shows what lies between key frames."""
SUFFIXES = (".mp4", ".gif")
_RATES = (0.5, 60.0)
_GIF_WIDTH = 960
"""Pixels: a GIF has no motion compensation, and at full size would be enormous."""
_QUALITY = ("-crf", "20", "-preset", "veryfast", "-movflags", "+faststart")


def frame_rate(moments: Iterable[tuple[str, float]]) -> float:
    """Frames per second of real time, from (scene, seconds) of each frame in order; 2 if no scene has two frames."""
    steps = [later - earlier for (one, earlier), (other, later) in pairwise(moments) if one == other]
    usual = statistics.median(steps) if steps else 1 / DEFAULT_RATE
    return min(max(1 / max(usual, 1e-6), _RATES[0]), _RATES[1])


def smooth_steps(rate: float) -> int:
    """Pictures from one frame to the next that make a drive of `rate` frames a second look smooth."""
    return max(round(SMOOTH_RATE / rate), 1)


def video_path(path: Path, warn: Callable[[str], None] = logger.warning) -> Path:
    """The path at which a video can be written here: `path`, or without ffmpeg a .gif instead, and `warn` is told.

    Raises InputError unless the name tells a format that can be written.
    """
    _check_name(path)
    fault = _ffmpeg_fault() if path.suffix == ".mp4" else ""
    if not fault:
        return path
    path = path.with_suffix(".gif")
    warn(f"there is no ffmpeg ({fault}), so the video becomes a GIF, {path.name}; pip install 'uniad-toolkit[video]'")
    return path


def write_video(pictures: Iterable[Picture], output: FileOutput | Path, fps: float) -> None:
    """Write pictures of one size, RGB [height, width, 3], each drawn when it is needed.

    `output` ends in .mp4, H.264 for any player, which needs ffmpeg, or .gif, reduced to 960 pixels. Raises InputError
    for another name, no picture at all, or a path that cannot be written.
    """
    _check_name(output)
    remaining = iter(pictures)
    first = next(remaining, None)
    if first is None:
        raise InputError(f"{output}: there is no frame to show; give at least one")
    with new_file(output) as file:
        file.touch()  # so that a place that cannot be written is found here, and not by ffmpeg
        (_write_mp4 if output.suffix == ".mp4" else _write_gif)(chain([first], remaining), file, fps)


def _check_name(path: FileOutput | Path) -> None:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: a video is written as .mp4 or .gif; give it such a name")


def _ffmpeg_fault() -> str:
    """Why there is no ffmpeg, or nothing."""
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        return one_line(error)
    return ""


def _write_mp4(pictures: Iterator[Picture], file: Path, fps: float) -> None:
    """Through the ffmpeg of imageio-ffmpeg, whose own writer does not tell whether everything was written."""
    even = map(_even, pictures)
    first = next(even)
    with ExitStack() as ending:
        with stops_held():  # a stop that comes while the process is being started ends it as well
            process = ending.enter_context(_start_ffmpeg(first.shape[1], first.shape[0], fps, file))
            ending.push(lambda kind, *_: process.kill() if kind else None)
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and its status says how
            for picture in chain([first], even):
                process.stdin.write(np.ascontiguousarray(picture).data)
            process.stdin.close()
    if process.returncode:
        raise InputError(
            f"cannot write {file.name}: ffmpeg ended with status {process.returncode}; choose a writable output, and "
            "see that there is space"
        )


def _even(picture: Picture) -> Picture:
    """Without the last row or column if their number is odd, which H.264 does not take."""
    return np.ascontiguousarray(picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2])


def _start_ffmpeg(width: int, height: int, fps: float, file: Path) -> subprocess.Popen[bytes]:
    """In a group of its own, out of reach of Ctrl-C: it ends with its input."""
    import imageio_ffmpeg

    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-")
    target = ("-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", *_QUALITY, str(file))
    return subprocess.Popen(
        (imageio_ffmpeg.get_ffmpeg_exe(), "-y", *source, *target),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )


def _write_gif(pictures: Iterator[Picture], file: Path, fps: float) -> None:
    images = (_gif_image(picture) for picture in pictures)
    next(images).save(
        file, format="GIF", save_all=True, append_images=images, duration=round(1000 / fps), loop=0, disposal=1
    )


def _gif_image(picture: Picture) -> Image.Image:
    """In 256 colours of its own."""
    height, width, _ = picture.shape
    if width > _GIF_WIDTH:
        picture = np.asarray(
            cv2.resize(picture, (_GIF_WIDTH, round(height * _GIF_WIDTH / width)), interpolation=cv2.INTER_AREA),
            np.uint8,
        )
    return Image.fromarray(picture).quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
