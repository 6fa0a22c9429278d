"""Plain data, as JSON and TOML files hold them, as the dataclasses that the toolkit works with.

msgspec converts; what it says against a document is told here with the exact place and in the toolkit's words. A place
is written like ``$.files.functional`` or ``$[2].shape``, where ``$`` is the whole document.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolkit.text import quoted, shown

T = TypeVar("T")
Text = Annotated[str, msgspec.Meta(min_length=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Duration = Annotated[float, msgspec.Meta(ge=0)]
"""Seconds."""
LARGEST = sys.float_info.max
MAX_DEPTH = 64
"""No document of the toolkit comes near."""
_WHOLE = range(-(2**63), 2**63)
_FAULT = re.compile(r"(.*) - at `(?:key` in `)?\$(.*)`", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]|\[(\.\.\.)\]")
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_EXPECTED = re.compile(r"Expected `([^`]+)`(.*?)(?:, got .*)?", re.DOTALL)
_KINDS = {"object": "an object", "array": "a list", "null": "null"}
_LONGEST_COMPLAINT, _MAX_DIMENSIONS = 300, 8


class Misfit(ValueError):
    """A document is not what it must be: `complaint` says why, in one line, and `place` where."""

    def __init__(self, place: str, complaint: str) -> None:
        self.place = shown(place)
        self.complaint = shown(" ".join(complaint.split()), _LONGEST_COMPLAINT)
        super().__init__(f"{self.place}: {self.complaint}")

    @property
    def field(self) -> str:
        """The outermost field that the place lies in; empty for the document as a whole."""
        match = re.match(r"\$\.(\w+)", self.place)
        return match[1] if match else ""


def decode(
    kind: type[T], document: Any, *, root: str = "$", largest: float | None = LARGEST, ignored: Collection[str] = ()
) -> T:
    """A parsed document as a `kind`: a dataclass of plain values, paths, enums, arrays, other dataclasses, or a tuple.

    Types are matched strictly, except that whole numbers are floats too. Arrays (``NDArray[…]``) come from nested lists
    of numbers, or are arrays already; those of any type stay as they are. A dataclass takes no other fields than its
    own, and `ignored` ones; whole numbers have 64 bits, floats are no larger than `largest` (None: anything). `root`
    begins places. Raises Misfit.
    """
    convert = partial(msgspec.convert, type=kind, dec_hook=partial(_from_plain, largest=largest))
    try:
        decoded: T = convert(document)
    except msgspec.ValidationError as error:
        raise _misfit(error, document, root, kind, convert) from error
    except UnicodeEncodeError as error:
        raise Misfit(root, "expected text, found half a character in the name of a field") from error
    _check(document, decoded, root, largest, ignored)
    return decoded


def completed(part: Any, place: str, **others: Any) -> Any:
    """An object of a document with fields that come from elsewhere. Raises Misfit if it has one of them itself."""
    if not isinstance(part, dict):
        return part  # `decode` refuses it
    for name in others:
        if name in part:
            raise Misfit(place, f"unknown field {name!r}")
    return {**part, **others}


def number_array(value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Numbers in nested lists, or an array of numbers, of this shape; ValueError says what is wrong.

    Not all need be finite: a whole number beyond all floats becomes infinite.
    """
    if not _has_shape(value, shape):
        raise ValueError(f"expected {' x '.join(map(str, shape))} numbers, found {quoted(value)}")
    try:
        return np.array(value, np.float64)
    except OverflowError:
        return np.full(shape, np.inf)


def _from_plain(kind: Any, value: Any, *, largest: float | None) -> Any:
    """What msgspec does not convert by itself."""
    if get_origin(kind) is np.ndarray:
        [dtype] = get_args(get_args(kind)[1])
        return _array(None if dtype is Any else np.dtype(dtype), value, largest)
    if kind is Path:
        if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
            raise ValueError(f"expected a path, found {quoted(value)}")
        return Path(value)
    raise NotImplementedError(f"no document holds a {kind}")


def _array(dtype: np.dtype[Any] | None, value: Any, largest: float | None) -> NDArray[Any]:
    if not isinstance(value, np.ndarray):
        value = number_array(value, _implied_shape(value))
    if value.dtype.kind not in "bfiu":
        raise ValueError(f"expected numbers, found an array of {value.dtype}")
    with np.errstate(over="ignore"):
        array: NDArray[Any] = value if dtype is None else value.astype(dtype)
    if dtype is not None and dtype.kind == "f" and largest is not None:
        if not np.isfinite(array).all():
            raise ValueError("holds a value that is not finite")
        if np.abs(array).max(initial=0) > largest:
            raise ValueError(f"holds a value above {largest:g}")
    return array


def _implied_shape(value: Any) -> tuple[int, ...]:
    """The shape of nested lists as their first entries have it."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list of numbers, found {quoted(value)}")
    shape: list[int] = []
    while isinstance(value, list | tuple) and len(shape) < _MAX_DIMENSIONS:
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether nested lists of numbers, or an array, have this shape; looks at no more values than it has."""
    if isinstance(value, np.ndarray):
        return value.shape == shape and value.dtype.kind in "iuf"
    if not shape:
        return type(value) in (int, float)
    return isinstance(value, list | tuple) and len(value) == shape[0] and all(_has_shape(v, shape[1:]) for v in value)


def _check(given: Any, kept: Any, place: str, largest: float | None, ignored: Collection[str], depth: int = 0) -> None:
    """What msgspec lets pass: further fields, numbers of any size, halves of characters, depth without end."""
    if depth > MAX_DEPTH:
        raise Misfit(place, f"is nested deeper than {MAX_DEPTH} levels")
    if type(kept) is int and kept not in _WHOLE:
        raise Misfit(place, f"expected a number of 64 bits, found {quoted(kept)}")
    if type(kept) is float and largest is not None and not abs(kept) <= largest:
        bound = "a finite number" if largest == LARGEST else f"at most {largest:g}"
        raise Misfit(place, f"expected {bound}, found {kept}")
    if isinstance(kept, str) and not _is_text(kept):
        raise Misfit(place, f"expected text, found half a character in {quoted(kept)}")
    for step, before, after in _parts(given, kept, place, ignored):
        _check(before, after, place + step, largest, ignored, depth + 1)


def _parts(given: Any, kept: Any, place: str, ignored: Collection[str]) -> Iterator[tuple[str, Any, Any]]:
    """What containers hold: the step to it, as it is in the document, and as it was converted."""
    if is_dataclass(kept) and not isinstance(kept, type):
        names = [field.name for field in fields(kept)]
        for name in given:
            if name not in names and name not in ignored:
                raise Misfit(place, f"unknown field {quoted(name)}; known fields: {', '.join(names)}")
        yield from ((f".{name}", given[name], getattr(kept, name)) for name in names if name in given)
    elif isinstance(kept, dict):
        for (key, before), after in zip(given.items(), kept.values(), strict=True):
            step = _step(key)
            yield step, key, key
            yield step, before, after
    elif isinstance(kept, list | tuple):
        yield from ((f"[{i}]", *pair) for i, pair in enumerate(zip(given, kept, strict=True)))


def _step(key: Any) -> str:
    return f".{key}" if isinstance(key, str) and re.fullmatch(r"\w{1,60}", key, re.ASCII) else f"[{quoted(key)}]"


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _misfit(
    error: msgspec.ValidationError, document: Any, root: str, kind: Any, convert: Callable[[Any], Any]
) -> Misfit:
    """What msgspec says, with the exact place and the value found there."""
    complaint, path = _complaint_and_path(error)
    value, place = document, root
    for name, index, unnamed in _STEP.findall(path):
        key = int(index) if index else _culprit(document, value, path, convert) if unnamed else name
        place += f"[{index}]" if index else _step(key)
        value = value[key]
    if isinstance(value, str) and (choices := _choices(kind, path)):
        return Misfit(place, f"expected {' or '.join(choices)}, found {quoted(value)}")
    if match := _MISSING.fullmatch(complaint):
        return Misfit(place, f"field {match[1]!r} is missing")
    if match := _EXPECTED.fullmatch(complaint):
        kinds = " or ".join(_KINDS.get(kind, kind) for kind in match[1].split(" | "))
        found = type(value).__name__ if "object" in match[1] else quoted(value)
        bound = match[2].replace(" of length >= 1", " that is not empty").replace(" of length", " of")
        return Misfit(place, f"expected {kinds}{bound}, found {found}")
    return Misfit(place, complaint)


def _choices(kind: Any, path: str) -> list[str]:
    """The values of the enum that a dataclass has at a path, through lists too; none if another type is there."""
    for name, index, _ in _STEP.findall(path):
        if index:
            kind = next(iter(get_args(kind)), None)
        else:
            kind = get_type_hints(kind).get(name) if is_dataclass(kind) else None
    return [str(member.value) for member in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []


def _complaint_and_path(error: msgspec.ValidationError) -> tuple[str, str]:
    match = _FAULT.fullmatch(str(error))
    return (match[1], match[2]) if match else (str(error), "")


def _culprit(document: Any, mapping: dict[Any, Any], path: str, convert: Callable[[Any], Any]) -> Any:
    """The key of the first item of a mapping in a document that does not convert, which msgspec writes as ``[...]``."""
    items = list(mapping.items())
    suspects = items
    try:
        while len(suspects) > 1:
            middle = len(suspects) // 2
            mapping.clear()
            mapping.update(suspects[:middle])
            suspects = suspects[:middle] if _fails_at(path, document, convert) else suspects[middle:]
    finally:
        mapping.clear()
        mapping.update(items)
    return suspects[0][0]


def _fails_at(path: str, document: Any, convert: Callable[[Any], Any]) -> bool:
    try:
        convert(document)
    except msgspec.ValidationError as error:
        return _complaint_and_path(error)[1] == path
    return False
