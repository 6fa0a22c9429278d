"""How text from elsewhere is shown: in one line of bounded length, without anything that a terminal would obey.

Names in files may be of any length and hold any character. Whatever prints, draws or writes them for people does so
through `shown`; messages quote other values through `quoted`, and errors through `one_line`.
"""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Mapping
from typing import Any

LONGEST = 200
"""Characters of a name; no key or node that means something needs more."""
LONGEST_LINE = 4000
"""Characters of a message, which may name several paths, each of up to 4,095 bytes."""


def shown(text: str | os.PathLike[str], limit: int = LONGEST) -> str:
    """The text in one line of at most `limit` characters, those in the middle left out where there are more.

    Control characters, line breaks, marks that turn the direction of writing and halves of surrogate pairs are
    replaced by their escapes, as in Python's literals.
    """
    part = _shortened(os.fspath(text), limit)
    return _shortened("".join(c if c.isprintable() else ascii(c)[1:-1] for c in part), limit)


def quoted(value: object, limit: int = LONGEST) -> str:
    """A value as a literal, as far as it fits: bounded in time too, whatever lists hold, and each other."""
    return shown(_LITERALS.repr(value), limit)


def one_line(error: BaseException, limit: int = 300) -> str:
    """Kind and message of an error."""
    try:
        message = str(error)
    except Exception:  # of a value in it that has no text: nested without end, or a number of thousands of digits
        message = ""
    return shown(" ".join(f"{type(error).__name__}: {message}".split()), limit)


def in_words(value: object, numbers: str = "") -> str:
    """A value as it reads in a sentence: mappings and lists without their brackets, floats in the format `numbers`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {in_words(item, numbers)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(in_words(item, numbers) for item in value)
    return format(value, numbers) if isinstance(value, float) else str(value)


def mebibytes(size: int) -> str:
    """A number of bytes in MiB."""
    return f"{size / 2**20:,.1f}"


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end - 1]}…{text[len(text) - end :]}"


class _Literals(reprlib.Repr):
    """Literals of plain values; of others no more than their type, since any class could write what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = 12
        self.maxstring = self.maxother = LONGEST
        self.fillvalue = "…"

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write out a number of thousands of digits."""
        digits = round(x.bit_length() * math.log10(2))
        return repr(x) if digits < 40 else f"an integer of {digits} digits"

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x if len(x) <= 60 else x[:60] + b"...")

    def repr_instance(self, x: Any, level: int) -> str:
        return repr(x) if x is None or isinstance(x, bool | float | complex) else f"<{type(x).__name__}>"


_LITERALS = _Literals()
