"""What a pickle would do, found out without doing it.

A pickle is a program for a machine with a stack. Only three things matter here: the names that it looks up; how deep it
nests its tuples, for Python computes their hashes by a recursion that ends where the process's stack does; and how much
it gives to the functions that it calls, for a large object that is copied by each of a million calls takes a few bytes
of the file for each.
"""

from __future__ import annotations

import _compat_pickle
import pickle
import pickletools
from dataclasses import dataclass
from enum import Enum, auto
from typing import IO, Any

MAX_DEPTH = 1000
MAX_GIVEN = 4
"""Elements that functions are called with, for each byte of the file; data has less than two."""


class _Kind(Enum):
    """What a step does, as far as it matters here."""

    PUT = auto()
    GET = auto()
    DUP = auto()
    MARK = auto()
    PLAIN = auto()
    """Puts a value onto the stack."""
    TUPLE = auto()
    ALTER = auto()
    """Adds to an object that is on the stack."""
    CALL = auto()
    NAME = auto()
    OTHER = auto()


_KINDS = {
    "DUP": _Kind.DUP, "MARK": _Kind.MARK, "GLOBAL": _Kind.NAME, "STACK_GLOBAL": _Kind.NAME,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Kind.PUT),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Kind.GET),
    **dict.fromkeys(("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE"), _Kind.TUPLE),
    **dict.fromkeys(("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"), _Kind.ALTER),
    **dict.fromkeys(("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "BUILD"), _Kind.CALL),
}  # fmt: skip


@dataclass(frozen=True)
class _Step:
    """One kind of step; it takes `pops` objects off the stack, and before them all those above the last mark."""

    kind: _Kind
    name: str
    to_mark: bool
    pops: int
    pushes: int


def _step(opcode: pickletools.OpcodeInfo) -> _Step:
    to_mark = pickletools.stackslice in opcode.stack_before
    pops = len([item for item in opcode.stack_before if item not in (pickletools.markobject, pickletools.stackslice)])
    plain = _Kind.OTHER if opcode.stack_before or not opcode.stack_after else _Kind.PLAIN
    return _Step(_KINDS.get(opcode.name, plain), opcode.name, to_mark, pops, len(opcode.stack_after))


_STEPS = {opcode.code: _step(opcode) for opcode in pickletools.opcodes}


class _Object:
    """An object on the stack: its characters, bytes or elements; a tuple's elements; a text."""

    __slots__ = ("depth", "items", "size", "text")

    def __init__(self, size: int = 1, items: tuple[_Object, ...] = (), text: str = "") -> None:
        self.size, self.items, self.text = size, items, text
        self.depth: int = 1 + max([item.depth for item in items]) if items else 0
        if self.depth > MAX_DEPTH:
            raise pickle.UnpicklingError(f"tuples are nested more than {MAX_DEPTH} deep")

    @property
    def weight(self) -> int:
        """What a function may copy that is given this object, or these arguments."""
        return self.size + sum([item.size for item in self.items])


def names_in_pickle(file: IO[bytes], *, length: int, max_steps: int) -> set[str]:
    """The dotted names that a pickle looks up; `file`, of so many bytes, is left behind it.

    Raises an Exception of some kind for a pickle that is damaged, has more than `max_steps`, nests its tuples too
    deeply, calls functions with more than the file holds, or memorises objects under an index above its length, up to
    which an unpickler may set memory aside.
    """
    names: set[str] = set()
    stack: list[_Object] = []
    marks: list[int] = []
    memo: dict[int, _Object] = {}
    number = _Object()
    given = 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        step = _STEPS[opcode.code]
        kind = step.kind
        if kind is _Kind.PUT:
            index = len(memo) if argument is None else int(str(argument))
            if index > length:
                raise pickle.UnpicklingError("an index lies outside the file")
            memo[index] = stack[-1]
        elif kind is _Kind.GET:
            stack.append(memo[int(str(argument))])
        elif kind is _Kind.PLAIN:
            stack.append(number if isinstance(argument, int | float) else _value(argument))
        elif kind is _Kind.MARK:
            marks.append(len(stack))
        elif kind is _Kind.DUP:
            stack.append(stack[-1])
        else:
            start = (marks.pop() if step.to_mark else len(stack)) - step.pops
            if start < 0:
                raise pickle.UnpicklingError("it takes what is not there")
            taken = stack[start:]
            del stack[start:]
            if kind is _Kind.TUPLE:
                stack.append(_Object(1 + len(taken), tuple(taken)))
            elif kind is _Kind.ALTER:
                taken[0].size += len(taken) - 1
                stack.append(taken[0])
            elif kind is _Kind.CALL:
                weight = sum([item.weight for item in taken])
                given += weight
                stack.append(taken[0] if step.name == "BUILD" else _Object(weight))
            elif step.pushes:
                stack.append(_Object(1 + len(taken)))
            if kind is _Kind.NAME or step.name == "INST":
                names.add(_name(*(argument.split(" ", 1) if argument else [item.text for item in taken])))
        if count > max_steps:
            raise pickle.UnpicklingError(f"it has more than {max_steps} steps")
        if given > MAX_GIVEN * length:
            raise pickle.UnpicklingError("it calls functions with more than it holds")
    return names


def _name(module: str, name: str) -> str:
    """A dotted name as Python 3 has it."""
    if (module, name) in _compat_pickle.NAME_MAPPING:
        module, name = _compat_pickle.NAME_MAPPING[module, name]
    return f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"


def _value(argument: Any) -> _Object:
    """What a step leaves on the stack that puts a value there."""
    if isinstance(argument, str):
        return _Object(1 + len(argument), text=argument)
    if isinstance(argument, bytes | bytearray):
        return _Object(1 + len(argument))
    return _Object()
