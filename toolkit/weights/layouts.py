"""Which of a checkpoint's entries are the weights, whatever wrapped the model and averaged it while it was trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from toolkit.text import quoted

T = TypeVar("T")
_INNER_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch puts into keys wherever it wraps a part of a model: compiled, sharded, or recomputed."""
_PARALLEL = "module."
_HOLDERS = frozenset({"model", "net", "network", "_forward_module"})
"""What training programs, such as PyTorch Lightning, call the model in their own."""
MAX_PREFIXES = 5
"""That hide each other."""
_UPDATE_COUNTS = frozenset({"n_averaged", "steps"})
"""Entries of torch's and mmengine's averaged models that are no weights."""
_AVERAGES = ("ema_state_dict", "state_dict_ema", "model_ema", "ema")
"""What trainings call the averages that they keep beside the state dict."""


class Weights(StrEnum):
    """Which weights to take of a checkpoint whose training kept a moving average of them."""

    STORED = "stored"
    EMA = "ema"


def without_wrappers(entries: Mapping[str, T]) -> dict[str, T]:
    """The entries under the keys of the bare model, as far as torch's own wrappers changed them."""
    plain = {_without_inner(key): value for key, value in entries.items()}
    if len(plain) < len(entries):  # two keys became one
        return dict(entries)
    weights = {key: value for key, value in plain.items() if key not in _UPDATE_COUNTS}
    if not weights or not all(key.startswith(_PARALLEL) for key in weights):
        return plain
    return without_wrappers({key.removeprefix(_PARALLEL): value for key, value in weights.items()})


def _without_inner(key: str) -> str:
    for wrapper in _INNER_WRAPPERS:
        key = key.replace(wrapper, "")
    return key


def split_averages(entries: Mapping[str, T]) -> tuple[dict[str, T], dict[str, T]]:
    """Weights, and the averages among them by the same keys: mmcv keeps that of `a.b` as `ema_a_b`."""
    names = {"ema_" + key.replace(".", "_"): key for key in entries}
    weights = {key: value for key, value in entries.items() if key not in names}
    averages = {names[key]: value for key, value in entries.items() if key in names}
    return weights, averages


def averages_beside(content: Mapping[Any, Any]) -> tuple[str, Mapping[Any, Any]] | None:
    """Name and entries of the averages that a checkpoint holds beside its state dict, if it does."""
    for name in _AVERAGES:
        found = content.get(name)
        if isinstance(found, Mapping) and found:
            inner = found.get("module")
            return name, inner if isinstance(inner, Mapping) and inner else found
    return None


def hiding_prefix(keys: Collection[str], known: Callable[[str], bool]) -> str:
    """What most keys begin with, part by part, until some of them are `known`; empty if none would be."""
    prefix, inner = "", list(keys)
    for _ in range(MAX_PREFIXES):
        if not inner or any(map(known, inner)):
            break
        [(part, _count)] = Counter(key.partition(".")[0] for key in inner).most_common(1)
        prefix += f"{part}."
        inner = [key.removeprefix(f"{part}.") for key in inner if key.startswith(f"{part}.")]
    return prefix if any(map(known, inner)) else ""


def without_holder(entries: Mapping[str, T], known: Callable[[str], bool]) -> tuple[str, dict[str, T]]:
    """The prefix of all keys by which a training program held its model, such as `model.`, and the entries without it.

    It is empty, and the entries are all as they were, if some key is `known`, or none would be without it.
    """
    prefix = hiding_prefix(entries, known)
    if not set(prefix.split(".")[:-1]) <= _HOLDERS or not all(key.startswith(prefix) for key in entries):
        prefix = ""
    return prefix, {key.removeprefix(prefix): value for key, value in entries.items()}


def holder_note(prefix: str) -> str:
    """What is said of a prefix that was taken away."""
    return f"every entry began with {quoted(prefix)}, which is left out"
