"""A bound on the memory of this process, for libraries that take what foreign data makes them ask for."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def memory_limit(more: int) -> Iterator[None]:
    """In the block, all threads of this process together may take so many bytes more; then allocations fail.

    See `is_out_of_memory` for how that shows. Limits that are lower already stay.
    """
    before, most = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [limit for limit in (before, most, held_bytes() + more) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, most))


def held_bytes() -> int:
    """What this process holds of the memory that the limit is about."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
