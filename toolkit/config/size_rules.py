"""Sizes that a configuration states and a checkpoint shows, as the submodule that owns the entries declares them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.config.model import ModelConfig

Shapes = Mapping[str, tuple[int, ...]]
"""Those of a checkpoint's entries, by key."""


@dataclass(frozen=True)
class SizeRule:
    """`stated` reads a size from the configuration, `shown` from the entries; `field` and `entry` say which it is.

    `shown` gives None where the checkpoint does not show the size.
    """

    field: str
    stated: Callable[[ModelConfig], int]
    entry: str
    shown: Callable[[Shapes], int | None]


def rows(field: str, stated: Callable[[ModelConfig], int], key: str, per: int = 1) -> SizeRule:
    """The first dimension of the entry `key` is `per` times what the configuration states."""
    return SizeRule(field, stated, key, lambda shapes: shapes[key][0] // per if shapes.get(key) else None)


def layers(field: str, stated: Callable[[ModelConfig], int], prefix: str) -> SizeRule:
    """The configuration states how many numbers follow `prefix` in the keys."""
    numbered = re.compile(re.escape(prefix) + r"(\d{1,9})\.")

    def count(shapes: Shapes) -> int:
        return len({match[1] for key in shapes if (match := numbered.match(key))})

    return SizeRule(field, stated, f"{prefix}*", count)
