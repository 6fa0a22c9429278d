"""Pictures of frames, small enough to lie inside the report."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from toolkit.errors import InputError
from toolkit.report.contents import PagePicture
from toolkit.runtime.run_record import FrameRecord
from toolkit.storage.regular_file import read_regular

MOST_PICTURES = 4
WIDTH = 1280
"""Pixels; larger pictures are scaled down."""
MAX_BYTES = 2**26
_SUFFIXES = (".jpg", ".png")
_QUALITY = 85


def frame_pictures(results: Path, frames: Sequence[FrameRecord]) -> tuple[PagePicture, ...]:
    """Pictures of up to `MOST_PICTURES` frames, spread evenly over those that have one.

    Raises InputError for one that cannot be read.
    """
    drawn = [(frame, path) for frame in frames if (path := _picture_path(results, frame)) is not None]
    chosen = np.unique(np.linspace(0, len(drawn) - 1, min(len(drawn), MOST_PICTURES)).round().astype(int))
    return tuple(_picture(*drawn[i]) for i in chosen)


def _picture_path(results: Path, frame: FrameRecord) -> Path | None:
    paths = (results / f"{frame.frame}{suffix}" for suffix in _SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _picture(frame: FrameRecord, path: Path) -> PagePicture:
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise InputError(f"{path} {error.strerror}; run the frames again") from error
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # an empty file, or one that states an enormous size
        pixels = None
    if pixels is None:
        raise InputError(f"{path} is no picture; run the frames again")
    height, width = pixels.shape[:2]
    if width > WIDTH:
        height, width = max(1, round(height * WIDTH / width)), WIDTH
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
    return PagePicture(
        frame=frame.frame,
        caption=f"{frame.scene}, {frame.boxes} objects",
        uri="data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii"),
        width=width,
        height=height,
    )
