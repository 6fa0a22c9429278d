"""Engines packed by gzip: much of one for TensorRT for RTX is source text of kernels, which repeat each other."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from toolkit.errors import InputError

LEVEL = 6
"""Of gzip's nine; higher ones take twice the time for less than one percent."""
_GZIP_STREAM = 16 + zlib.MAX_WBITS


def pack(engine: bytes) -> bytes:
    """The engine as a gzip file, the same bytes whenever it is made."""
    return gzip.compress(engine, LEVEL, mtime=0)


def unpack(packed: bytes, size: int, source: Path) -> bytes:
    """The engine of `size` bytes that `pack` packed.

    Raises InputError, which names `source`, for what is no such file; no more than `size` bytes are ever made.
    """
    stream = zlib.decompressobj(wbits=_GZIP_STREAM)
    try:
        # One more, so that the end is read and an excess shows; 0 would be no limit.
        engine = stream.decompress(packed, max(size, 0) + 1)
    except (zlib.error, OverflowError):  # no file has a size beyond what zlib counts with
        engine = b""
    if len(engine) != size or not stream.eof:
        raise InputError(f"{source} is not packed as its sidecar says; copy both again, or build again")
    return engine
