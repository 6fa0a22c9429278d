"""How much time and memory a call may take, and what is said of one that takes more."""

from __future__ import annotations

import re
from dataclasses import dataclass

WITHOUT_MEMORY = re.compile(r"bad[_ ]alloc|arena alloc|(failed|unable) to allocate", re.IGNORECASE)
"""How libraries in C++, whose errors have no class for it, say that they were not granted memory."""


@dataclass(frozen=True)
class Limits:
    """Of each call: seconds, and the bytes that its process may hold, those of its libraries included."""

    seconds: float
    bytes: int


class LimitExceeded(Exception):
    """A call took more than it may, and was ended; the message says so in words that follow a noun."""


class CallFailed(Exception):
    """The function raised an exception; the message is its kind and text in one line."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error comes of memory that was not granted."""
    return isinstance(error, MemoryError) or WITHOUT_MEMORY.search(str(error)) is not None
