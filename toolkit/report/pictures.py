"""Pictures of frames, small enough to lie inside the report."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from toolkit.errors import InputError
from toolkit.report.contents import PagePicture
from toolkit.runtime.run_record import FrameRecord
from toolkit.storage.regular_file import read_regular

MOST_PICTURES = 4
WIDTH = 1280
"""Pixels; larger pictures are scaled down."""
MAX_BYTES = MAX_PIXELS = 2**26
_SUFFIXES = (".jpg", ".png")
_QUALITY = 85


def frame_pictures(results: Path, frames: Sequence[FrameRecord]) -> tuple[PagePicture, ...]:
    """Pictures of up to `MOST_PICTURES` frames, spread evenly over those that have one.

    Raises InputError for one that cannot be read.
    """
    drawn = [(frame, path) for frame in frames if (path := _picture_path(results, frame)) is not None]
    chosen = np.unique(np.linspace(0, len(drawn) - 1, min(len(drawn), MOST_PICTURES)).round().astype(int))
    return tuple(
        page_picture(path, frame.frame, f"{frame.scene}, {frame.boxes} objects", "run the frames again")
        for frame, path in (drawn[i] for i in chosen)
    )


def page_picture(path: Path, frame: str, caption: str, remedy: str) -> PagePicture:
    """A picture file of a frame. Raises InputError, which names the remedy, if it cannot be read."""
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise InputError(f"{path} {error.strerror}; {remedy}") from error
    try:
        picture = _decode(data)
    # Foreign bytes can make the parser fail in any way.
    except Exception as error:
        raise InputError(f"{path} is no picture; {remedy}") from error
    width, height = picture.size
    if width > WIDTH:
        width, height = WIDTH, max(1, round(height * WIDTH / width))
        picture = picture.resize((width, height), Image.Resampling.BOX)
    jpeg = BytesIO()
    picture.save(jpeg, "JPEG", quality=_QUALITY)
    uri = "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode("ascii")
    return PagePicture(frame, caption, uri, width, height)


def _picture_path(results: Path, frame: FrameRecord) -> Path | None:
    paths = (results / f"{frame.frame}{suffix}" for suffix in _SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _decode(data: bytes) -> Image.Image:
    """A picture that states no more pixels than one of frames has, before memory is set aside for them."""
    with warnings.catch_warnings(action="ignore"):  # Pillow's own bound is higher
        picture = Image.open(BytesIO(data), formats=("JPEG", "PNG"))
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(f"it states {picture.width} x {picture.height} pixels")
    return picture.convert("RGB")
