"""A new graph pass from the template beside this module, which is itself a working pass."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from pathlib import Path

from toolkit.errors import InputError
from toolkit.graph.graph_pass import GraphPass
from toolkit.storage.template import write_filled

TEMPLATE = Path(__file__).with_name("template")
FILES = ("__init__.py", "new_pass.py", "test_new_pass.py")
WORDS = re.compile("[a-z][a-z0-9]*(-[a-z0-9]+)*")


def check_pass_name(name: str, passes: Sequence[GraphPass]) -> None:
    """Raise InputError unless a new pass can have this name beside `passes`."""
    if not WORDS.fullmatch(name) or keyword.iskeyword(name):
        raise InputError(f"pass name {name!r} is not possible; use lower-case words joined by hyphens, as in my-pass")
    if name in [graph_pass.name for graph_pass in passes]:
        raise InputError(f"there is a graph pass named {name} already; choose another name")


def write_pass(name: str, folder: Path) -> None:
    """Write the template's files into an existing folder, with the template's names replaced by those of the pass."""
    module = module_name(name)
    words = {"new-pass": name, "new_pass": module, "NEW_PASS": module.upper()}
    for file in FILES:
        write_filled(TEMPLATE / file, folder / file.replace("new_pass", module), words)


def module_name(name: str) -> str:
    """``my-pass`` as ``my_pass``."""
    return name.replace("-", "_")
