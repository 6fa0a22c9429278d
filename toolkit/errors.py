"""The two ways in which a command ends without having done what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

GPU_FAILURE = "CUDA"
"""How torch begins what it says of a GPU without memory, and of one that fails: it has no class for both."""


class InputError(Exception):
    """What the user gave cannot be used; the message says what, where and the remedy. Exit status 2.

    Further arguments are the rows of a table below the message.
    """

    def __str__(self) -> str:
        return "\n".join(self.args)


class CheckFailed(Exception):
    """The command ran, and what it checked does not hold. Exit status 1. Further arguments as of `InputError`."""

    __str__ = InputError.__str__


@contextmanager
def inside(place: str) -> Iterator[None]:
    """What an InputError says in this block happened in a file, or at a place in one."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
