"""Reading mmcv-style Python configs, with their `_base_` files, without running them.

A config is a Python file that only assigns values to names. Its syntax tree is walked, and the few constructs that
values are written with are evaluated here; every other one is refused with its place. Sizes, depths and numbers
are bounded, so that a hostile file costs no more time or memory than a large honest one.
"""

from __future__ import annotations

import ast
import math
import operator
import os.path
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.storage.regular_file import open_regular, readable_file
from toolkit.text import one_line, quoted

MAX_BYTES = 2**18
MAX_FILES = 20
MAX_DEPTH = 60
"""Of expressions, and of values nested in each other."""
MAX_ELEMENTS = 200_000
"""Elements and characters that the values of one file may comprise, counted at every use of a name."""
MAX_INTEGER = 2**63
BASE, DELETE = "_base_", "_delete_"

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
}


class Refused(Exception):
    """What a config may not contain."""


def read_python_config(path: Path | str) -> dict[str, Any]:
    """Every name that the config assigns, its `_base_` files merged underneath as mmcv does.

    Values are None, booleans, numbers, strings, lists, tuples and dicts. Files in a folder `_base_`, which hold data
    set and run-time defaults but no model, may be absent. Raises InputError, with file and line, for anything that
    is not a plain value, for faulty or circular `_base_`, and for whatever exceeds the bounds of this module.
    """
    return _read_with_bases(Path(path), (), [])


def files_of_python_config(path: Path) -> list[Path]:
    """The file itself and its `_base_` files. Raises InputError as `read_python_config` does."""
    files: list[Path] = []
    _read_with_bases(path, (), files)
    return files


def _read_with_bases(path: Path, parents: tuple[Path, ...], seen: list[Path]) -> dict[str, Any]:
    seen.append(path)
    if len(seen) > MAX_FILES:
        raise InputError(f"config {path}: more than {MAX_FILES} files by {BASE}; put their values into one file")
    own = _read_file(path)
    bases = own.pop(BASE, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list | tuple) or not all(isinstance(base, str) and base.isprintable() for base in bases):
        raise InputError(f"config {path}: {BASE} is not a path or a list of paths; give paths relative to the config")
    merged: dict[str, Any] = {}
    lineage = (*parents, path.resolve())
    for base in bases:
        file = path.parent / base
        exists = os.path.exists(file)  # unlike Path.exists, it takes any name
        if exists and file.resolve() in lineage:
            raise InputError(f"config {path}: {BASE} {quoted(base)} is circular; a config cannot be its own base")
        if BASE in file.parts and not exists:
            continue
        values = _read_with_bases(file, lineage, seen)
        twice = sorted(merged.keys() & values.keys())
        if twice:
            raise InputError(f"config {path}: two {BASE} files assign {quoted(twice[0])}; keep one of them")
        merged |= values
    try:
        return _merge(own, merged, "")
    except Refused as error:
        raise InputError(f"config {path}: {error!s:.300}") from error


def _merge(own: Mapping[str, Any], base: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`own` over `base`, dict by dict; a dict with `_delete_=True` replaces the base's."""
    merged = {key: value for key, value in base.items() if key != DELETE}
    for key, value in own.items():
        if key == DELETE:
            continue
        below = merged.get(key, {})
        if isinstance(value, dict):
            if not isinstance(below, dict) and not value.get(DELETE):
                raise Refused(
                    f"{where}{key} is a dict where its {BASE} file has {type(below).__name__}; add {DELETE}=True to it"
                )
            merged[key] = _merge(value, {} if value.get(DELETE) else below, f"{where}{key}.")
        else:
            merged[key] = value
    return merged


def _read_file(path: Path) -> dict[str, Any]:
    with open_regular(readable_file(path, "config")) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"config {path} is larger than {MAX_BYTES} bytes; give a config file")
    try:
        with warnings.catch_warnings():
            # About doubtful escapes in strings; they change no value.
            warnings.simplefilter("ignore")
            module = ast.parse(data.decode("utf-8-sig"))
    except SyntaxError as error:
        raise InputError(f"{path}:{error.lineno or 1}: {error.msg}; a config must be valid Python") from error
    except (UnicodeDecodeError, ValueError) as error:
        raise InputError(f"config {path} is not a text file: {error}; give a config file") from error
    except (RecursionError, MemoryError) as error:
        raise InputError(f"config {path}: an expression is nested too deeply; write it in steps") from error
    return _Evaluator(path).run(module)


class _Evaluator:
    """Evaluates the assignments of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: dict[str, Any] = {}
        self.elements = 0
        self.depth = 0

    def run(self, module: ast.Module) -> dict[str, Any]:
        """The names that a module assigns."""
        for statement in module.body:
            match statement:
                case ast.Assign(targets=targets, value=expression) if all(isinstance(t, ast.Name) for t in targets):
                    value = self.evaluate(expression)
                    self.names |= {target.id: value for target in targets if isinstance(target, ast.Name)}
                case ast.Expr(value=ast.Constant(value=str())):
                    pass  # a docstring
                case _:
                    with self.at(statement):
                        raise Refused(describe(statement))
        return {name: value for name, value in self.names.items() if not name.startswith("__")}

    @contextmanager
    def at(self, node: ast.stmt | ast.expr) -> Iterator[None]:
        """Turns what goes wrong inside into an error that names the place of `node`."""
        try:
            yield
        except Refused as error:
            raise InputError(
                f"{self.path}:{node.lineno}: {error!s:.200} is not allowed in a config; write the value itself"
            ) from error
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise InputError(f"{self.path}:{node.lineno}: {one_line(error)}; write the value itself") from error

    def evaluate(self, node: ast.expr) -> Any:
        """The value of an expression. Raises InputError."""
        self.depth += 1
        with self.at(node):
            if self.depth > MAX_DEPTH:
                raise Refused(f"an expression nested more than {MAX_DEPTH} deep")
            value = self.value_of(node)
            if isinstance(value, int) and abs(value) > MAX_INTEGER:
                raise Refused("an integer of more than 64 bits")
        self.depth -= 1
        return value

    def value_of(self, node: ast.expr) -> Any:
        """The value of an expression. Raises Refused, and the errors of Python's own operators."""
        match node:
            case ast.Constant(value=None | bool() | int() | float() as value):
                return self.charged(value)
            case ast.Constant(value=str() as value):
                value.encode()  # fails for half a surrogate pair, which nothing could print
                return self.charged(value)
            case ast.Name(id=name):
                if name not in self.names:
                    raise Refused(f"the name {quoted(name)}, which no line above assigns,")
                return self.charged(self.names[name])
            case ast.List(elts=items):
                return self.sequence(items)
            case ast.Tuple(elts=items):
                return tuple(self.sequence(items))
            case ast.Dict(keys=keys, values=values):
                return self.mapping(keys, values)
            case ast.BinOp(op=op, left=left, right=right) if type(op) in OPERATORS:
                return self.combined(type(op), self.evaluate(left), self.evaluate(right))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
                return OPERATORS[type(op)](number(self.evaluate(operand)))
            case ast.JoinedStr(values=parts):
                return self.charged("".join(self.text(part) for part in parts))
            case ast.Subscript(value=container, slice=index):
                return self.charged(self.item(self.evaluate(container), index))
            case ast.Call(func=ast.Name(id="dict")):
                return self.dict_call(node)
            case ast.Call(func=ast.Name(id="max" | "min" | "len" | "range" as name), args=args, keywords=[]):
                return self.function(name, [self.evaluate(arg) for arg in args])
        raise Refused(describe(node))

    def sequence(self, items: Sequence[ast.expr]) -> list[Any]:
        values: list[Any] = []
        for item in items:
            if isinstance(item, ast.Starred):
                values.extend(of_type(self.evaluate(item.value), list, tuple))
            else:
                values.append(self.evaluate(item))
        return values

    def mapping(self, keys: Sequence[ast.expr | None], values: Sequence[ast.expr]) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, value in zip(keys, values, strict=True):
            if key is None:
                result |= of_type(self.evaluate(value), dict)
            else:
                name = of_type(self.evaluate(key), str, int)
                if isinstance(name, str) and not name.isprintable():
                    raise Refused("a key with unprintable characters")
                result[name] = self.evaluate(value)
        return result

    def dict_call(self, call: ast.Call) -> dict[Any, Any]:
        """``dict(a=1, **other)``, with at most one dict as positional argument."""
        result: dict[Any, Any] = {}
        if len(call.args) > 1:
            raise Refused("dict() with several positional arguments")
        for arg in call.args:
            result |= of_type(self.evaluate(arg), dict)
        for keyword in call.keywords:
            value = self.evaluate(keyword.value)
            result |= of_type(value, dict) if keyword.arg is None else {keyword.arg: value}
        return result

    def combined(self, op: type[ast.AST], left: Any, right: Any) -> Any:
        """Arithmetic of numbers; sums of strings, lists or tuples; multiples of these."""
        if op is ast.Mult and isinstance(left, int) and isinstance(right, str | list | tuple):
            left, right = right, left
        if isinstance(left, str | list | tuple):
            if op is ast.Mult and isinstance(right, int):
                self.charge(self.weight(left) * max(right, 0))
            elif op is not ast.Add or type(left) is not type(right):
                raise Refused(f"{op.__name__} of {type(left).__name__} and {type(right).__name__}")
            else:
                self.charge(self.weight(left) + self.weight(right))
            return OPERATORS[op](left, right)
        if op is ast.Pow and abs(number(right)) > 64:
            raise Refused("a power above 64")
        result = OPERATORS[op](number(left), number(right))
        return number(result)

    def text(self, part: ast.expr) -> str:
        """One part of an f-string."""
        match part:
            case ast.Constant(value=str() as value):
                return value
            case ast.FormattedValue(value=expression, conversion=-1, format_spec=None):
                return str(of_type(self.evaluate(expression), str, int, float, type(None)))
        raise Refused("an f-string with a format or conversion")

    def item(self, container: Any, index: ast.expr) -> Any:
        container = of_type(container, dict, list, tuple, str)
        if isinstance(index, ast.Slice):
            ends = [None if end is None else self.evaluate(end) for end in (index.lower, index.upper, index.step)]
            return container[slice(*ends)]
        return container[of_type(self.evaluate(index), str, int)]

    def function(self, name: str, args: list[Any]) -> Any:
        if name == "len" and len(args) == 1:
            return len(of_type(args[0], str, list, tuple, dict))
        if name == "range" and args:
            values = range(*(of_type(arg, int) for arg in args))
            # `len(values)` fails on large ones.
            self.charge(max(0, math.ceil((values.stop - values.start) / values.step)))
            return list(values)
        if name in ("max", "min") and args:
            numbers = of_type(args[0], list, tuple) if len(args) == 1 else args
            return (max if name == "max" else min)(number(n) for n in numbers)
        raise Refused(f"{name}() with {len(args)} arguments")

    def charged(self, value: Any) -> Any:
        """The value, its whole extent counted."""
        self.charge(self.weight(value))
        return value

    def charge(self, elements: int) -> None:
        self.elements += elements
        if self.elements > MAX_ELEMENTS:
            raise Refused(f"more than {MAX_ELEMENTS} elements in all values together")

    def weight(self, value: Any, depth: int = 0) -> int:
        """Elements and characters of a value, at every level; shared parts count as often as they occur.

        Stops soon beyond the bound, so that values built of shared parts do not take exponential time.
        """
        if depth > MAX_DEPTH:
            raise Refused(f"a value nested more than {MAX_DEPTH} deep")
        if isinstance(value, str):
            return 1 + len(value)
        if not isinstance(value, list | tuple | dict):
            return 1
        total = 1
        for part in value.values() if isinstance(value, dict) else value:
            total += self.weight(part, depth + 1)
            if total > MAX_ELEMENTS:
                break
        return total


def number(value: Any) -> Any:
    """The value, if it is a number or boolean."""
    return of_type(value, int, float)


def of_type(value: Any, *types: type[Any]) -> Any:
    """The value, if it is of one of these types. Raises Refused."""
    if not isinstance(value, types):
        raise Refused(f"a {type(value).__name__} instead of {' or '.join(t.__name__ for t in types)}")
    return value


def describe(node: ast.stmt | ast.expr) -> str:
    """What a refused construct is, in a few words."""
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return f"the call {name}(…)"
        case ast.Call():
            return "a call"
        case ast.Set():
            return "a set, or a template in double braces,"
        case ast.Attribute(attr=name):
            return f"the attribute .{name}"
        case ast.Import() | ast.ImportFrom():
            return "an import"
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
            return "an assignment to anything but plain names"
        case _:
            return f"the construct {type(node).__name__}"
