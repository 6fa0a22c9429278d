"""Values as a reader sees them."""

from __future__ import annotations

from collections.abc import Mapping

from toolkit.report.contents import Facts


def facts_of(values: object) -> Facts:
    """Whatever a manifest has at a place, by name; nothing if that is not a mapping."""
    return (
        {str(key).replace("_", " "): text(value) for key, value in values.items()}
        if isinstance(values, Mapping)
        else {}
    )


def text(value: object) -> str:
    """Mappings and lists without their brackets, numbers short."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f}"
