"""A new op from the template beside this module, which is itself a working op."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from pathlib import Path

from toolkit.errors import InputError
from toolkit.ops.spec import CustomOp

TEMPLATE = Path(__file__).with_name("template")
TEMPLATE_FILES = ("__init__.py", "op.py", "kernel.cu", "test_new_op.py")


def camel_case(name: str) -> str:
    """``my_op`` as ``MyOp``."""
    return "".join(word.capitalize() for word in name.split("_"))


def check_name(name: str, ops: Sequence[CustomOp]) -> None:
    """Raise InputError unless a new op can have this name beside `ops`."""
    if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise InputError(f"op name {name!r} is not possible; use lower-case words joined by underscores, as in my_op")
    if camel_case(name) in [op.name for op in ops]:
        raise InputError(f"there is an op named {camel_case(name)} already; choose another name")


def write_op(name: str, folder: Path) -> None:
    """Write the template's files into an existing folder, with the template's names replaced by those of the op."""
    replacements = {"new_op": name, "NewOp": camel_case(name), "NEW_OP": name.upper()}
    for file in TEMPLATE_FILES:
        text = (TEMPLATE / file).read_text(encoding="utf-8")
        for old, new in replacements.items():
            text = text.replace(old, new)
        (folder / file.replace("new_op", name)).write_text(text, encoding="utf-8")
