"""How the entries of two checkpoints differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ChangedEntry:
    """An entry whose values differ: the largest absolute difference, or None where values are not finite."""

    key: str
    difference: float | None


@dataclass(frozen=True)
class Difference:
    """`missing` entries are only in the other checkpoint, `extra` ones only in this; largest changes come first."""

    other: str
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    reshaped: Mapping[str, str]
    changed: tuple[ChangedEntry, ...]
    identical: int


def compare_weights(entries: Mapping[str, Tensor], others: Mapping[str, Tensor], other: str) -> Difference:
    """Compare by key, by shape, and by value whatever the precision; `other` names the second checkpoint."""
    common = [key for key in entries if key in others]
    reshaped = {
        key: f"{list(entries[key].shape)} here, {list(others[key].shape)} there"
        for key in common
        if entries[key].shape != others[key].shape
    }
    comparable = [key for key in common if key not in reshaped]
    changes = [
        ChangedEntry(key, largest_difference(entries[key], others[key]))
        for key in comparable
        if not torch.equal(entries[key].double(), others[key].double())
    ]
    return Difference(
        other=other,
        missing=tuple(sorted(others.keys() - entries.keys())),
        extra=tuple(sorted(entries.keys() - others.keys())),
        reshaped=dict(sorted(reshaped.items())),
        changed=tuple(sorted(changes, key=lambda c: (c.difference is not None, -(c.difference or 0.0), c.key))),
        identical=len(comparable) - len(changes),
    )


def largest_difference(a: Tensor, b: Tensor) -> float | None:
    """Largest absolute difference of two tensors of one shape; None if it is not finite."""
    difference = float((a.double() - b.double()).abs().max())
    return difference if difference < float("inf") else None
