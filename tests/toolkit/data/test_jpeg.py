"""The size that a JPEG file states."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.data.jpeg import jpeg_size
from toolkit.data.preprocess import read_jpeg
from toolkit.errors import InputError


def encode(height: int, width: int, *options: int) -> bytes:
    return cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8), options)[1].tobytes()


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)])
def test_size_is_the_decoders(options: tuple[int, ...]) -> None:
    assert jpeg_size(encode(30, 70, *options)) == (30, 70)


def test_size_after_thumbnails_and_garbage() -> None:
    """A thumbnail is a picture in a segment of the picture; decoders skip bytes between segments."""
    picture, thumbnail = encode(30, 70), encode(3, 7)
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2) + thumbnail
    assert jpeg_size(picture[:2] + segment + b"garbage\xff\xff" + picture[3:]) == (30, 70)


def test_size_of_no_picture() -> None:
    assert jpeg_size(b"\xff\xd8\xff\xda" + encode(30, 70)) == (0, 0)


@given(data=st.binary())
def test_any_bytes_have_a_size(data: bytes) -> None:
    assert len(jpeg_size(b"\xff\xd8" + data)) == 2


def test_huge_picture_is_not_decoded(tmp_path: Path) -> None:
    """It would take 1.2 GB."""
    data = bytearray(encode(30, 70))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = (20_000).to_bytes(2) * 2
    (tmp_path / "huge.jpg").write_bytes(data)
    with pytest.raises(InputError, match=r"huge\.jpg: states 20000x20000 pixels; the most is \d+: resize the image"):
        read_jpeg(tmp_path / "huge.jpg")
