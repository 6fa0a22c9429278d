"""Variations of intact data: what disks, networks, other programs and enemies make of it. All are drawn from a seed."""

from __future__ import annotations

import io
import math
import pickletools
import random
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Place = tuple[str | int, ...]
Alter = Callable[[bytes, random.Random], bytes]
ESCAPES = "a\x1b]0;title\x07\x1b[2J\x9b31m\r\n\x85\u2028\u202e[red]<b>\ud800"
"""What a terminal, a page or a picture would obey or stumble over."""
WRITTEN = ESCAPES.encode("utf-8", "ignore").decode()
"""What a file of UTF-8 can hold of it."""
NAMES = (ESCAPES, ESCAPES * 5000, "a\nb", "../../a", "a\0b", "x" * 20_000, "", " ", "\ud800", "[/]", "{{ 7 }}", "%s%n")
NUMBERS = (0, -1, 2**31, 2**63, -(2**64), 10**400, 1e308, -1e308, 5e-324, math.nan, math.inf, -0.0, 0.5)
VALUES: tuple[Any, ...] = (None, True, [], {}, [[]], [None], {"": None}, *NAMES, *NUMBERS)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
DTYPES = ("'|O'", "'<M8[s]'", "'|V9'", "'<f8'", "'<U99'", "'" + "x" * 20_000 + "'", "[('a', '<f4')]", "7", "None")
SHAPES = ("(-1,)", "(99999999999,)", f"({2**70},)", "()", "(0,)", "(1,)" * 99, "(True,)", "'x'", "(2,) * 9")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes as a disk or a network may return them."""
    start, end = sorted(rng.sample(range(len(data) + 1), 2))
    end = min(end, start + 4096)
    block = data[start:end]
    match rng.randrange(7):
        case 0:
            return data[:start]
        case 1:
            return data[:start] + bytes(len(block)) + data[end:]
        case 2:
            return data[:start] + block + data[start:]
        case 3:
            return data[:start] + data[end:]
        case 4:
            return data[:start] + rng.randbytes(rng.randrange(1, 64)) + data[start:]
        case 5:
            return data + rng.randbytes(rng.randrange(1, 4096))
    flipped = bytearray(data)
    for _ in range(rng.randrange(1, 20)):
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def places(value: Any, path: Place = ()) -> list[Place]:
    """The keys of every item in nested JSON containers."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in ((*path, key), *places(item, (*path, key)))]


def altered_document(root: Any, rng: random.Random) -> Any:
    """A JSON document with one item of another type, size or value, under another name, or left out."""
    *way, last = rng.choice(places(root))
    inner = root
    for key in way:
        inner = inner[key]
    old = inner[last]
    if isinstance(old, list) and old and rng.random() < 0.5:
        inner[last] = rng.choice([old[:-1], old + old, old[::-1], [old], old * 1000])
    elif rng.random() < 0.1:
        del inner[last]
    elif isinstance(inner, dict) and rng.random() < 0.15:
        inner[rng.choice(NAMES)] = inner.pop(last)
    else:
        inner[last] = rng.choice(VALUES)
    return root


def altered_array(array: NDArray[Any], rng: random.Random) -> NDArray[Any]:
    """An array of another type, shape or values."""
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        match rng.randrange(7):
            case 0:
                return array.astype(rng.choice(["f2", "f8", "i1", "u8", "?", "c16", "U9", "S3", "O", "M8[s]", "V3"]))
            case 1:
                return array.reshape(*array.shape, 1)
            case 2:
                return array.reshape(-1)[: rng.randrange(array.size + 1)]
            case 3:
                return np.repeat(array.reshape(1, -1), rng.randrange(2, 50), axis=0)
            case 4:
                return np.zeros(rng.choice([(), (0,), (0, 4), (1,) * 30]), array.dtype)
            case 5:
                return np.full_like(array, rng.choice([0, 1, 7, 99]))
        values = array.astype(array.dtype if array.dtype.kind == "f" else "f8").copy()
        values.reshape(-1)[rng.randrange(values.size)] = rng.choice([math.nan, math.inf, -1e30, 1e30, 3e38, 1e-40])
        return values


def altered_npy(data: bytes, rng: random.Random) -> bytes:
    """An array in numpy's format whose header states another type, order or shape, or none."""
    header = data[10 : 10 + int.from_bytes(data[8:10], "little")].decode()
    match rng.randrange(5):
        case 0:
            header = re.sub(r"'descr': [^,]+", lambda _: f"'descr': {rng.choice(DTYPES)}", header)
        case 1:
            header = header.replace("False", rng.choice(["True", "None", "7"]))
        case 2:
            header = rng.choice(["", "{}", "[" * 5000, "{'shape': (1,)}", "__import__('os')"])
        case _:
            header = re.sub(r"\(.*\)", lambda _: rng.choice(SHAPES), header)
    body = data[10 + int.from_bytes(data[8:10], "little") :]
    return data[:6] + b"\2\0" + len(header).to_bytes(4, "little") + header.encode() + body


def altered_zip(data: bytes, rng: random.Random, alter: Alter = damaged) -> bytes:
    """An archive with one member altered, renamed, doubled or left out, or with an odd directory."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    chosen = rng.randrange(len(members))
    name, content = members[chosen]
    match rng.randrange(8):
        case 0:
            del members[chosen]
        case 1:
            members.append((name, content))
        case 2:
            members[chosen] = rng.choice(["../" + name, "/" + name, "x" * 20_000, "a\x1b[2J", "A/" + name]), content
        case 3:
            members[chosen] = name, bytes(2**24)
        case 4:
            return _with_odd_entry(data, rng)
        case _:
            members[chosen] = name, alter(content, rng)
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(buffer, "w", rng.choice(METHODS)) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def _with_odd_entry(data: bytes, rng: random.Random) -> bytes:
    """An archive of whose directory one entry states other sizes, places, flags or methods."""
    entries = [match.start() for match in re.finditer(rb"PK\x01\x02", data)]
    place = rng.choice(entries) + rng.choice([6, 8, 10, 16, 20, 24, 28, 30, 42])
    return data[:place] + rng.choice([b"\0\0", b"\xff\xff", b"\1\0", b"\x63\0"]) + data[place + 2 :]


def altered_pickle(data: bytes, rng: random.Random) -> bytes:
    """A pickle with one of its operations doubled, left out, or in place of another."""
    starts = [position for _, _, position in pickletools.genops(data) if position is not None]
    pieces = [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    chosen = rng.randrange(1, len(pieces))
    pieces[chosen] = rng.choice([b"", pieces[chosen] * 2, rng.choice(pieces), b"N", b"K\0", b"]", b"0", b"}", b")"])
    return b"".join(pieces)


def altered_message(message: Any, rng: random.Random) -> Any:
    """A protobuf message of which one field that is set has another value, or none."""
    owner, field = rng.choice(list(_fields(message)))
    value = getattr(owner, field.name)
    if rng.random() < 0.2:
        owner.ClearField(field.name)
    elif _is_repeated(value):
        if rng.random() < 0.5 or field.message_type:
            value.extend(list(value) * rng.choice([1, 1000 // len(value)]))
        else:
            value[rng.randrange(len(value))] = _odd_scalar(field, rng)
    elif field.message_type:
        value.Clear()
    else:
        setattr(owner, field.name, _odd_scalar(field, rng))
    return message


def _fields(message: Any) -> Iterator[tuple[Any, Any]]:
    """Every field that is set in a message and those in it, with the message that it belongs to."""
    for field, value in message.ListFields():
        yield message, field
        if field.message_type:
            for part in value if _is_repeated(value) else [value]:
                yield from _fields(part)


def _is_repeated(value: Any) -> bool:
    return hasattr(value, "extend")


def _odd_scalar(field: Any, rng: random.Random) -> Any:
    if field.enum_type:
        return rng.choice(field.enum_type.values).number
    if field.cpp_type == field.CPPTYPE_STRING:
        name = rng.choice(NAMES).encode("utf-8", "ignore")
        return name if field.type == field.TYPE_BYTES else name.decode()
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice([math.nan, math.inf, -1.0, 1e30])
    return rng.choice([0, 1, -1, 7, 99, 2**31 - 1, -(2**31)])
