"""What becomes of memory that is freed: glibc gives pictures' back to the system, which clears it for the next one."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""
_LARGEST = 2**25
"""Bytes: an array up to that size is made of memory that is kept. It is the most that glibc itself would come to."""
_KEPT = 2 * _LARGEST
"""Bytes that each thread may keep at most, as glibc itself would have it then."""


def keep_freed_memory() -> None:
    """Have this process keep what it frees for what it asks for next; where there is no glibc, nothing is done.

    A picture of 4 MB otherwise comes in a thousand pages that the system clears, while threads that ask for memory wait
    for each other.
    """
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _KEPT)
