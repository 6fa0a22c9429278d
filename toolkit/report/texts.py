"""Values as a reader sees them."""

from __future__ import annotations

from collections.abc import Mapping

from toolkit.report.contents import Facts
from toolkit.text import in_words


def facts_of(values: object) -> Facts:
    """Whatever a manifest has at a place, by name; nothing if that is not a mapping."""
    return (
        {str(key).replace("_", " "): in_words(value, ".3g") for key, value in values.items()}
        if isinstance(values, Mapping)
        else {}
    )
