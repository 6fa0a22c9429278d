"""Losses of one clip beside those that another training computed of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.storage.json_file import read_json

TOTAL = "loss"
"""What mmdetection calls the sum."""
TOLERANCES = {"float32": 4e-4, "float64": 1e-6}
"""Of |a - b| / |b|. In float32 ten times what the reference's own entries differ from those in float64 at most; in
float64 what those are stored to."""
REMEDY = "give a file of the bridge's dump_losses, or of train --losses"


@dataclass(frozen=True)
class ComparedLoss:
    """An entry: ours, theirs, and their relative difference; None where one has no such entry, or no finite one."""

    name: str
    ours: float | None
    theirs: float | None

    @property
    def difference(self) -> float:
        """|ours - theirs| / |theirs|; 0 where both are 0, infinite where they cannot be compared."""
        if self.ours is None or self.theirs is None:
            return math.inf
        apart = abs(self.ours - self.theirs)
        return apart / abs(self.theirs) if self.theirs else math.inf if apart else 0.0


def compare_losses(found: Mapping[str, Any], path: Path) -> list[ComparedLoss]:
    """What `clip_losses` found beside the entries of a file, the worst first. Raises InputError for another file."""
    theirs = read_losses(path)
    ours = dict(found["losses"])
    if TOTAL in theirs:
        ours[TOTAL] = found["total"]
    names = {**ours, **theirs}
    compared = [ComparedLoss(name, ours.get(name), theirs.get(name)) for name in names]
    return sorted(compared, key=lambda each: each.difference, reverse=True)


def beyond(compared: list[ComparedLoss], dtype: str) -> list[ComparedLoss]:
    """Those that differ by more than two computations in a type may."""
    return [each for each in compared if not each.difference <= TOLERANCES[dtype]]


def read_losses(path: Path) -> dict[str, float]:
    """The finite entries of a file's `losses`. Raises InputError for a file that holds none."""
    document = read_json(path, REMEDY)
    losses = document.get("losses") if isinstance(document, dict) else None
    if not isinstance(losses, dict) or not losses:
        raise InputError(f"{path} holds no losses; {REMEDY}")
    numbers = {name: value for name, value in losses.items() if isinstance(value, int | float) and math.isfinite(value)}
    if not numbers:
        raise InputError(f"{path} holds no loss that is a number; {REMEDY}")
    return {name: float(value) for name, value in numbers.items()}
