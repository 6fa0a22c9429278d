"""Births, misses and deaths of tracks (UniAD, section 3.1; MOTR's runtime tracker)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from plugins.tracking.state import FREE_ID
from toolkit.config.model import TrackingConfig


class Lifecycle(NamedTuple):
    """Rows after this frame's births and deaths."""

    id: Tensor
    """[N] int32; rows with an id survive into the next frame"""
    missed: Tensor
    """[N] int32, frames since the object was last seen"""
    active: Tensor
    """[N] bool, carries an object and sees it in this frame"""
    next_id: Tensor
    """[1] int32, the next free id"""


def update_lifecycle(ids: Tensor, missed: Tensor, scores: Tensor, next_id: Tensor, config: TrackingConfig) -> Lifecycle:
    """Apply the score thresholds to every row [N]; new ids are consecutive in row order.

    The last query's row is the ego, which never gets an id. Padding rows have a score below every threshold.
    """
    is_ego = torch.arange(len(ids), device=ids.device) == config.queries - 1
    seen = scores >= config.birth_score
    unseen = (ids >= 0) & (scores < config.keep_score)
    missed = torch.where(seen, 0, missed + unseen)
    died = unseen & (missed >= config.miss_tolerance)
    born = (ids < 0) & seen & ~is_ego
    births = born.cumsum(0, dtype=torch.int32)
    ids = torch.where(born, next_id + births - 1, torch.where(died, FREE_ID, ids))
    active = (ids >= 0) & (scores >= config.keep_score)
    return Lifecycle(ids, missed, active, next_id + births[-1:])
