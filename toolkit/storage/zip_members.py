"""Where the members of a zip archive lie.

Every reader of zip archives has its own idea of a damaged one. What is accepted here has one reading: the directory
lies right before the end of the file, members lie one behind the other before it, and each name occurs once.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

MAX_DIRECTORY_BYTES = 2**24
_END, _LOCATOR, _END64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sLQL"), struct.Struct("<4sQ2H2L4Q")
_ENTRY, _HEADER = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s5H3L2H")
_STORED, _ZIP64_FIELD, _IN_ZIP64_FIELD = 0, 1, 0xFFFFFFFF


@dataclass(frozen=True)
class Member:
    """Where the bytes of a member lie in the file, and whether they are stored as they are: uncompressed."""

    start: int
    size: int
    stored: bool


@dataclass(frozen=True)
class _Entry:
    """What the directory says of a member. `offset` is that of the header before its bytes."""

    name: str
    method: int
    compressed: int
    size: int
    offset: int


def zip_members(file: IO[bytes]) -> Mapping[str, Member]:
    """The members of an archive by name. Raises BadZipFile for one that is damaged, or could be read in two ways."""
    entries, end = _directory(file)
    members: dict[str, Member] = {}
    known: set[str] = set()
    free = 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        method, start = _header(file, entry.offset)
        stored = method == entry.method == _STORED and entry.compressed == entry.size
        distinct = free <= entry.offset and start + entry.compressed <= end and entry.name.casefold() not in known
        _require(distinct, "its members overlap, or have one name")
        free = start + entry.compressed
        known.add(entry.name.casefold())
        members[entry.name] = Member(start, entry.compressed, stored)
    return members


def _directory(file: IO[bytes]) -> tuple[list[_Entry], int]:
    """The entries of the directory, and where it begins."""
    size = file.seek(0, os.SEEK_END)
    last = size - _END.size
    signature, disk, first_disk, here, count, length, begin, comment = _unpack(file, _END, last)
    _require(signature == b"PK\x05\x06" and disk == first_disk == comment == 0 and here == count, "no end record")
    if last >= _LOCATOR.size + _END64.size:
        signature, disk, place, _ = _unpack(file, _LOCATOR, last - _LOCATOR.size)
        if signature == b"PK\x06\x07":
            last -= _LOCATOR.size + _END64.size
            signature, rest, _, _, _, _, here, count, length, begin = _unpack(file, _END64, last)
            whole = signature == b"PK\x06\x06" and rest == _END64.size - 12 and disk == 0 and here == count
            _require(whole and place == last, "no end record")
    _require(begin + length == last and length <= MAX_DIRECTORY_BYTES, "its directory is not before its end")
    file.seek(begin)
    entries = list(_entries(file.read(length)))
    _require(len(entries) == count, "its directory is damaged")
    return entries, begin


def _entries(directory: bytes) -> Iterator[_Entry]:
    place = 0
    while place < len(directory):
        _require(place + _ENTRY.size <= len(directory), "its directory is damaged")
        (signature, _, _, flags, method, _, _, _, *sizes, name, extra, comment, disk, _, _, offset) = (
            _ENTRY.unpack_from(directory, place)
        )
        place += _ENTRY.size
        following = place + name + extra + comment
        _require(signature == b"PK\x01\x02" and disk == 0 and following <= len(directory), "its directory is damaged")
        _require(flags & 1 == 0, "a member is encrypted")
        text = directory[place : place + name].decode("utf-8", "surrogateescape")
        large = _large(directory[place + name : place + name + extra])
        size, compressed, offset = (
            next(large, value) if value == _IN_ZIP64_FIELD else value for value in (sizes[1], sizes[0], offset)
        )
        yield _Entry(text, method, compressed, size, offset)
        place = following


def _large(extra: bytes) -> Iterator[int]:
    """Sizes and offset that do not fit into 32 bits, in the order of an entry's first such field."""
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == _ZIP64_FIELD:
            data = extra[place + 4 : place + 4 + length]
            return iter(struct.unpack(f"<{len(data) // 8}Q", data[: len(data) // 8 * 8]))
        place += 4 + length
    return iter(())


def _header(file: IO[bytes], offset: int) -> tuple[int, int]:
    """The method in the header of a member, and where its bytes begin."""
    signature, _, _, method, _, _, _, _, _, name, extra = _unpack(file, _HEADER, offset)
    _require(signature == b"PK\x03\x04", "a member has no header")
    return method, offset + _HEADER.size + name + extra


def _unpack(file: IO[bytes], record: struct.Struct, place: int) -> tuple[Any, ...]:
    _require(place >= 0, "it is cut off")
    file.seek(place)
    data = file.read(record.size)
    _require(len(data) == record.size, "it is cut off")
    return record.unpack(data)


def _require(holds: bool, fault: str) -> None:
    if not holds:
        raise zipfile.BadZipFile(fault)
