"""The two ways in which a command ends without having done what was asked."""

from __future__ import annotations

GPU_FAILURE = "CUDA"
"""How torch begins what it says of a GPU without memory, and of one that fails: it has no class for both."""


class InputError(Exception):
    """What the user gave cannot be used; the message says what, where and the remedy. Exit status 2.

    Further arguments are the rows of a table below the message.
    """

    def __str__(self) -> str:
        return "\n".join(self.args)


class CheckFailed(Exception):
    """The command ran, and what it checked does not hold. Exit status 1."""
