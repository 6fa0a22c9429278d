"""Where a training's clips come from, and in which order a process takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from toolkit.training.clip import Clip


@dataclass(frozen=True)
class Place:
    """A clip by its index, in an epoch: what is random about it, such as augmentation, goes by both."""

    epoch: int
    index: int


class Clips(Protocol):
    """Clips that can be made in any process, in any order."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: Place) -> Clip: ...


@dataclass(frozen=True)
class Share:
    """One of the processes that train together: its number and how many there are."""

    rank: int = 0
    world: int = 1


def places(count: int, epoch: int, seed: int, share: Share, group: int) -> list[Place]:
    """The clips of one process in an epoch: a random order of all `count`, dealt out one to each process in turn.

    It is begun again from the front so that every process gets the same number, a multiple of `group`.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)).tolist()
    whole = -(-count // (share.world * group)) * share.world * group
    order = (order * -(-whole // count))[:whole]
    return [Place(epoch, index) for index in order[share.rank :: share.world]]
