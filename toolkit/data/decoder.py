"""What can decode camera pictures."""

from __future__ import annotations

from enum import StrEnum


class Decoder(StrEnum):
    """What makes pixels of JPEG files; they differ a little, and so do results."""

    OPENCV = "opencv"
    NVJPEG = "nvjpeg"
