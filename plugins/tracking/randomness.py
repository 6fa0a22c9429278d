"""What is random about the tracks that enter the next frame of training (MOTR, Zeng et al. 2022, section 3.4).

Some tracks are lost, so that their objects have to be found again, and queries without an object are carried like
tracks, so that the network learns to let go of them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def drop(rows: Tensor, probability: float) -> Tensor:
    """The rows [K] without those that chance takes."""
    return rows[~chance(rows, probability)]


def false_positives(free: Tensor, scores: Tensor, carried: Tensor, probability: float) -> Tensor:
    """Rows [F] that carry no object and enter the next frame: one, with the probability, for each of those `carried`.

    They are those of the highest scores [N] among the `free` rows [M].
    """
    wanted = int(chance(carried, probability).sum())
    return free[scores[free].argsort(descending=True, stable=True)[:wanted]]


def chance(rows: Tensor, probability: float) -> Tensor:
    """[K] bool: each of rows [K] with the probability. All of this is on the host."""
    return torch.rand(rows.shape) < probability
