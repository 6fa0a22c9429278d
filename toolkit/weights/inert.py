"""What trainings keep beside their weights, read without what it is made of: logs, settings, dates and paths.

A pickle names the classes of such objects and calls them. Those listed here are not imported: stand-ins take their
place, which keep the entries of mappings, nothing of other objects, and do nothing.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

_MAPPINGS = re.compile(r"addict\.addict\.Dict|(mmcv\.utils|mmengine\.config)\.config\.ConfigDict|[\w.]+\.AttributeDict")
_OBJECTS = re.compile(
    r"(mmcv|mmengine)\.[\w.]+|argparse\.Namespace|pathlib\.(_local\.)?\w*Path|uuid\.UUID"
    r"|datetime\.(date|datetime|time|timedelta|timezone)|builtins\.(getattr|dict|list|int|float|bool|str|tuple)"
)
"""Functions among them are methods of mmengine's logs, found by `getattr`, and what fills a `defaultdict`."""


class Inert:
    """Stands in for any object, and for what a call gives; keeps nothing."""

    __slots__ = ()

    def __new__(cls, *_: object) -> Inert:
        """Takes any arguments."""
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        """Takes any arguments."""

    def __setstate__(self, state: object) -> None:
        """Takes any state."""


def new_mapping(*_: object) -> OrderedDict[Any, Any]:
    """Stands in for `collections.defaultdict`."""
    return OrderedDict()


def inert_stand_ins(names: Iterable[str]) -> dict[str, Callable[..., Any]]:
    """A stand-in for each of the names that is known to be harmless and that weights do not need."""
    found = {name: _stand_in(name) for name in names}
    return {name: stand_in for name, stand_in in found.items() if stand_in is not None}


def _stand_in(name: str) -> Callable[..., Any] | None:
    if name == "collections.defaultdict":
        return new_mapping
    # torch fills no mappings but those of this very class.
    return OrderedDict if _MAPPINGS.fullmatch(name) else Inert if _OBJECTS.fullmatch(name) else None
