"""What a checkpoint is, what it holds, and what about it is odd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.specs import Submodule
from toolkit.text import shown
from toolkit.weights.checkpoint import COUNTER, MAX_META, Checkpoint, dtype_name, printable
from toolkit.weights.identity import identify
from toolkit.weights.layouts import holder_note, without_holder
from toolkit.weights.published import published_file
from toolkit.weights.selection import is_owned_by, missing_submodules

MEAN, VARIANCE = ".running_mean", ".running_var"


@dataclass(frozen=True)
class Share:
    """How much of a checkpoint belongs to one submodule. Statistics of batch normalization are no parameters."""

    submodule: str
    entries: int
    parameters: int
    bytes: int


@dataclass(frozen=True)
class Oddity:
    """One entry that training rarely leaves like this, and what is odd about it."""

    kind: str
    key: str
    note: str


@dataclass(frozen=True)
class CheckpointReport:
    """Everything `inspect` says about a checkpoint.

    `notes` say what was chosen of the file; `precision` counts entries by dtype; `left_out` maps submodules that a
    conversion would leave out to the reason;
    `unclaimed` are entries that no submodule owns. Entries without effect are not searched for oddities.
    """

    path: str
    sha256: str
    kind: str
    classes: tuple[str, ...]
    meta: Mapping[str, object]
    precision: Mapping[str, int]
    submodules: tuple[Share, ...]
    left_out: Mapping[str, str]
    unclaimed: tuple[str, ...]
    without_effect: tuple[str, ...]
    oddities: tuple[Oddity, ...]
    notes: tuple[str, ...]


def inspect_checkpoint(checkpoint: Checkpoint, submodules: Sequence[Submodule]) -> CheckpointReport:
    """Describe a checkpoint as the file holds it (`read_checkpoint`), by the submodules that own its entries."""
    prefix, entries = without_holder(checkpoint.state_dict, is_owned_by(submodules))
    idle = {key for key in entries if key.endswith(COUNTER)}.union(*(s.without_effect(entries) for s in submodules))
    classes = checkpoint.meta.get("CLASSES")
    published = published_file(checkpoint.path.name)
    return CheckpointReport(
        path=str(checkpoint.path),
        sha256=checkpoint.sha256,
        kind=identify(entries),
        classes=tuple(shown(c) for c in classes[:MAX_META] if isinstance(c, str))
        if isinstance(classes, list | tuple)
        else (),
        meta=printable(checkpoint.meta),
        precision=dict(Counter(dtype_name(value) for value in entries.values())),
        submodules=shares(entries, submodules),
        left_out=missing_submodules(submodules, entries),
        unclaimed=tuple(key for key in entries if not any(s.owns(key) for s in submodules)),
        without_effect=tuple(key for key in entries if key in idle),
        oddities=tuple(find_oddities({key: value for key, value in entries.items() if key not in idle})),
        notes=(
            *checkpoint.notes,
            *((holder_note(prefix),) if prefix else ()),
            *((published.note(entries),) if published else ()),
        ),
    )


def shares(entries: Mapping[str, Tensor], submodules: Sequence[Submodule]) -> tuple[Share, ...]:
    """What belongs to each submodule, and to none of them."""
    groups = {s.name: {key: value for key, value in entries.items() if s.owns(key)} for s in submodules}
    groups["(none)"] = {key: value for key, value in entries.items() if not any(s.owns(key) for s in submodules)}
    return tuple(_share(name, group) for name, group in groups.items() if group)


def _share(name: str, entries: Mapping[str, Tensor]) -> Share:
    return Share(
        submodule=name,
        entries=len(entries),
        parameters=sum(
            value.numel()
            for key, value in entries.items()
            if value.is_floating_point() and not key.endswith((MEAN, VARIANCE))
        ),
        bytes=sum(value.nbytes for value in entries.values()),
    )


def find_oddities(entries: Mapping[str, Tensor]) -> Iterator[Oddity]:
    """Values that are not finite, other precisions than float32, tensors of one value, untouched statistics."""
    for key, value in entries.items():
        if not value.is_floating_point():
            continue
        if value.dtype != torch.float32:
            yield Oddity("precision", key, dtype_name(value))
        values = value if value.dtype == torch.float64 else value.float()
        broken = int((~values.isfinite()).sum())
        if broken:
            yield Oddity("not finite", key, f"{broken} of {values.numel()} values are NaN or infinite")
        elif key.endswith(VARIANCE):
            mean = entries.get(key.removesuffix(VARIANCE) + MEAN)
            if mean is not None and not mean.double().any() and bool((values == 1).all()):
                yield Oddity("statistics never updated", key.removesuffix(VARIANCE), "mean is 0, variance is 1")
        elif values.numel() > 1 and not key.endswith(MEAN) and bool((values == values.flatten()[0]).all()):
            constant = float(values.flatten()[0])
            yield Oddity("constant" if constant else "all zero", key, f"every value is {constant:g}")
