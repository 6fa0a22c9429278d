"""Why something is not what it resembles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Unfit(Exception):
    """What is looked at does not fit the pattern; the message says why, `remedy` how to write it so that it fits."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


@contextmanager
def remedied(remedy: str) -> Iterator[None]:
    """Say how to write what does not fit in the block, unless the fault itself says so."""
    try:
        yield
    except Unfit as unfit:
        unfit.remedy = unfit.remedy or remedy
        raise
