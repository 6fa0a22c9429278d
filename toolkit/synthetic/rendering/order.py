"""In which order upright things are painted so that the nearer ones hide the farther ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.synthetic.world.geometry import Array


def back_to_front(feet: Array, viewer: Array) -> list[int]:
    """Indices of upright things with convex feet [n, 4, 2] (counter-clockwise), seen from `viewer` [2].

    If an edge of one foot separates it from another, the one on the viewer's side is never hidden by the other. Where
    no edge does (they overlap), the distance of the centres decides.
    """
    count = len(feet)
    if count == 0:
        return []
    hides = _may_hide(feet, viewer)
    distance = np.linalg.norm(feet.mean(axis=1) - viewer, axis=-1)
    order: list[int] = []
    left = np.ones(count, bool)
    covers = hides.sum(axis=1)  # how many unpainted things each one may hide: those come first
    by_distance = np.argsort(-distance, kind="stable")
    while len(order) < count:
        waiting = by_distance[left[by_distance]]
        free = waiting[covers[waiting] == 0]
        index = int(free[0] if len(free) else waiting[0])
        order.append(index)
        left[index] = False
        covers -= hides[:, index]
    return order


def _may_hide(feet: Array, viewer: Array) -> NDArray[np.int64]:
    """[n, n]: 1 where the first may hide the second, which cannot hide the first."""
    edges = np.roll(feet, -1, axis=1) - feet
    outward = np.stack([edges[..., 1], -edges[..., 0]], axis=-1)  # [n, 4, 2]
    level = (outward * feet).sum(axis=-1)
    beyond = np.einsum("iex,jcx->iejc", outward, feet) - level[:, :, None, None]
    separates = (beyond >= -1e-6).all(axis=-1)  # [n, 4, n]: edge e of i has all of j outside
    sees = (outward @ viewer - level <= 0)[:, :, None]  # the viewer is on i's own side of the edge
    near = (separates & sees).any(axis=1)  # i is never hidden by j
    far = (separates & ~sees).any(axis=1)  # j is never hidden by i
    safe = near | far.T  # [i, j]: i is never hidden by j
    distance = np.linalg.norm(feet.mean(axis=1) - viewer, axis=-1)
    unknown = ~safe & ~safe.T
    ahead = unknown & (distance[:, None] < distance[None])
    hides = (safe & ~safe.T) | ahead
    np.fill_diagonal(hides, False)
    counted: NDArray[np.int64] = hides.astype(np.int64)
    return counted
