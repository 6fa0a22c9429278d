"""What a JPEG file states about its size, read before any memory is set aside for its pixels."""

from __future__ import annotations

import re

_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xDA)})
_SCAN = 0xDA


def jpeg_size(data: bytes) -> tuple[int, int]:
    """(height, width) in pixels that the file's header states; (0, 0) if it has none before its first scan.

    Finds the header where a decoder does, which skips whatever lies between segments.
    """
    position = 0
    while (found := _MARKER.search(data, position)) and (code := found[1][0]) != _SCAN:
        body = found.end()
        if code in _FRAME_HEADERS:
            # Two bytes of length and one of precision come first.
            return int.from_bytes(data[body + 3 : body + 5]), int.from_bytes(data[body + 5 : body + 7])
        position = body if code in _WITHOUT_LENGTH else body + int.from_bytes(data[body : body + 2])
    return 0, 0
