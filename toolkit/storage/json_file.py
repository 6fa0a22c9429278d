"""Reading JSON files, of the toolkit and of others: within bounds, and with errors that name file, place and remedy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.storage.regular_file import open_regular
from toolkit.storage.typed import Misfit
from toolkit.text import quoted

MAX_JSON_BYTES = 2**24
"""A manifest or a frame has a few thousand bytes."""


def read_json(path: Path, remedy: str = "repair the file") -> Any:
    """Parsed JSON; InputError names the file and position of a fault, and the remedy."""
    data = read_bytes(path, MAX_JSON_BYTES, remedy)
    try:
        return parse_json(data)
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error!s:.200}; {remedy}") from error


def read_format(path: Path, version: int, remedy: str) -> dict[str, Any]:
    """The fields of a JSON object besides `format`, which must be `version`. Raises InputError."""
    values = read_json(path, remedy)
    found = values.get("format") if isinstance(values, dict) else None
    if type(found) is not int or found != version:  # true is 1, too
        raise InputError(f"{path}: format is not {version}; {remedy} with this version")
    return {name: value for name, value in values.items() if name != "format"}


def read_bytes(path: Path, most: int, remedy: str) -> bytes:
    """The content of a regular file of at most so many bytes. Raises InputError."""
    try:
        with open_regular(path) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path") from error
    if len(data) > most:
        raise InputError(f"{path} is larger than {most} bytes; {remedy}")
    return data


def parse_json(data: bytes) -> Any:
    """The value of a JSON text in UTF-8; ValueError says what is wrong with it.

    An object that has a name twice is refused. NaN and infinity, which Python writes too, are not.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


@contextmanager
def refusing(path: Path, remedy: str, sentence: str = "is damaged") -> Iterator[None]:
    """Turns a Misfit into an InputError of one line: the file, what it is, the place, and the remedy.

    ``{field}`` in the sentence stands for the outermost field. A fault of the whole document needs no sentence.
    """
    try:
        yield
    except Misfit as misfit:
        if misfit.place == "$":
            raise InputError(f"{path}: {misfit.complaint}; {remedy}") from misfit
        raise InputError(f"{path} {sentence.format(field=misfit.field)}: {misfit}; {remedy}") from misfit


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"an object has the name {quoted(name)} twice")
    return value
