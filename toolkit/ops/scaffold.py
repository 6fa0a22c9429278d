"""A new op from the template beside this module, which is itself a working op."""

from __future__ import annotations

import importlib.util
import keyword
import re
from collections.abc import Sequence
from pathlib import Path

from toolkit.errors import InputError
from toolkit.ops.spec import CustomOp
from toolkit.storage.template import write_filled

TEMPLATE = Path(__file__).with_name("template")
CODE_FILES = ("__init__.py", "op.py", "kernel.cu")
TEST_FILE = "test_new_op.py"
PROJECT_FILE = "pyproject.toml"
WORDS = re.compile("[a-z][a-z0-9]*(_[a-z0-9]+)*")


def camel_case(name: str) -> str:
    """``my_op`` as ``MyOp``."""
    return "".join(word.capitalize() for word in name.split("_"))


def check_name(name: str, ops: Sequence[CustomOp]) -> None:
    """Raise InputError unless a new op can have this name beside `ops`."""
    if not WORDS.fullmatch(name) or keyword.iskeyword(name):
        raise InputError(f"op name {name!r} is not possible; use lower-case words joined by underscores, as in my_op")
    if camel_case(name) in [op.name for op in ops]:
        raise InputError(f"there is an op named {camel_case(name)} already; choose another name")


def check_package(package: str) -> None:
    """Raise InputError unless a new package can have this name beside those that are installed."""
    if not WORDS.fullmatch(package) or keyword.iskeyword(package):
        raise InputError(f"package name {package!r} is not possible; use lower-case words joined by underscores")
    if importlib.util.find_spec(package) is not None:
        raise InputError(f"there is a module named {package} already; choose another name for the package")


def write_op(name: str, folder: Path) -> None:
    """Write the template's files into an existing folder, with the template's names replaced by those of the op."""
    words = op_words(name)
    for file in (*CODE_FILES, TEST_FILE):
        write_filled(TEMPLATE / file, folder / file.replace("new_op", name), words)


def write_package(name: str, package: str, folder: Path) -> None:
    """Write a project into an existing folder: the op in a package that can be installed, and its test beside it."""
    words = {"NEW-PACKAGE": package.replace("_", "-"), "new_package": package, **op_words(name)}
    code, tests = folder / package / name, folder / "tests"
    code.mkdir(parents=True)
    tests.mkdir()
    (folder / package / "__init__.py").touch()
    for file in CODE_FILES:
        write_filled(TEMPLATE / file, code / file, words)
    write_filled(TEMPLATE / PROJECT_FILE, folder / PROJECT_FILE, words)
    test = TEST_FILE.replace("new_op", name)
    write_filled(TEMPLATE / TEST_FILE, tests / test, {"from .op import": f"from {package}.{name}.op import", **words})


def op_words(name: str) -> dict[str, str]:
    """The template's names and those of an op."""
    return {"new_op": name, "NewOp": camel_case(name), "NEW_OP": name.upper()}
