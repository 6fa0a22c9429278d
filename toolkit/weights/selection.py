"""Which submodules a checkpoint can make: one from an earlier training stage makes the parts it contains."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.errors import InputError
from toolkit.specs import Submodule
from toolkit.text import quoted
from toolkit.weights.layouts import hiding_prefix

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """The submodules a checkpoint makes, its entries without those of the others, and why each other is left out."""

    submodules: tuple[Submodule, ...]
    state_dict: Mapping[str, Tensor]
    left_out: Mapping[str, str]


def select_submodules(submodules: Sequence[Submodule], state_dict: Mapping[str, Tensor]) -> Selection:
    """Leave out the submodules that `missing_submodules` names. Raises InputError if none remains."""
    left_out = missing_submodules(submodules, state_dict)
    kept = tuple(s for s in submodules if s.name not in left_out)
    if not kept:
        prefix = hiding_prefix(state_dict, is_owned_by(submodules))
        count = sum(key.startswith(prefix) for key in state_dict)
        hidden = f"{count} of {len(state_dict)} entries begin with {quoted(prefix)}; save those, without it, or"
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise InputError(
            f"the checkpoint makes no part of the network: {hidden if prefix else f'{reasons};'} "
            "see what it holds with `uniad-toolkit inspect`"
        )
    dropped = [s for s in submodules if s.name in left_out]
    foreign = tuple(prefix for s in dropped for prefix in (*s.checkpoint_prefixes, *s.inherited))
    entries = {key: value for key, value in state_dict.items() if not key.startswith(foreign)}
    return Selection(kept, entries, left_out)


def is_owned_by(submodules: Sequence[Submodule]) -> Callable[[str], bool]:
    """Whether an entry belongs to one of the submodules, by its key."""
    return lambda key: any(submodule.owns(key) for submodule in submodules)


def missing_submodules(submodules: Sequence[Submodule], keys: Collection[str]) -> dict[str, str]:
    """Submodules of which `keys` has no entry but inherited ones, and those that read from them, with the reason."""
    missing = {}
    for submodule in submodules:
        own = [key for key in keys if submodule.owns(key)]
        if submodule.checkpoint_prefixes and all(key.startswith(submodule.inherited) for key in own):
            shared = "but such as the model before it has"
            missing[submodule.name] = f"the checkpoint has no entry for it{f' {shared}' if own else ''}"
    while readers := _readers(submodules, missing):
        missing |= readers
    return missing


def _readers(submodules: Sequence[Submodule], missing: Mapping[str, str]) -> dict[str, str]:
    """Remaining submodules that read, now or as state, what one that is left out would have produced."""
    lost = {spec.name: s.name for s in submodules if s.name in missing for spec in s.outputs}
    return {
        s.name: f"it reads {name!r} of {lost[name]}"
        for s in submodules
        if s.name not in missing
        for name in (*s.reads, *(state.source for state in s.states))
        if name in lost
    }
