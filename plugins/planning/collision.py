"""The collision optimisation behind the planner (Hu et al. 2023, section 3.4): the plan is pushed off obstacles.

Steps do not depend on each other: each is a smooth problem in two variables, so that a trust-region method of SciPy
finds the reference's (CasADi's and IPOPT's) optimum without these packages.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.runtime.results import FrameResult

ALPHA, SIGMA = 5.0, 1.0
WEIGHT = ALPHA / (2.507 * SIGMA)
"""Of each obstacle's Gaussian bump."""
REACH_METRES = 5.0
"""Obstacles farther away from a step's point do not count."""
CELL_METRES = 0.5
FRAMES = 5
"""Of occupancy: now, and every half a second until 2 s; what comes later is taken to stay as it is then."""


def optimise(plan: NDArray[Any], occupancy: NDArray[Any]) -> NDArray[np.float32]:
    """The plan [6, 2] as (x, y) in metres in the LiDAR frame, 0.5 s apart, moved off what is occupied.

    `occupancy` [5, n, n] or [1, 5, n, n] or [1, 5, 1, n, n] is what occupies the cells at 0, 0.5 … 2 s, anything but 0
    an obstacle. Of each step the sum of the squared distance to the plan and of the obstacles' bumps is minimised.
    Raises ValueError for other shapes.
    """
    reference = np.asarray(plan, np.float32)
    frames = np.asarray(occupancy)
    size = frames.shape[-1] if frames.ndim else 0
    if reference.ndim != 2 or reference.shape[1] != 2 or frames.size != FRAMES * size * size:
        raise ValueError(
            f"a plan of shape {reference.shape} and occupancy of {frames.shape} are no [T, 2] and [5, n, n]"
        )
    frames = frames.reshape(FRAMES, size, size)
    moved = [
        _optimise_step(point, obstacles_near(point, frames[min(step, FRAMES - 1)]))
        for step, point in enumerate(reference, start=1)
    ]
    return np.array(moved, np.float32).reshape(reference.shape)


def refine(result: FrameResult) -> FrameResult:
    """A frame's result with its plan optimised; as it is without a plan, or without occupancy of the form it needs."""
    plan, space = result.plan, result.occupancy
    if plan is None or space is None or len(space.cells) < FRAMES or len(set(space.cells.shape[1:])) > 1:
        return result
    return replace(result, plan=replace(plan, points=optimise(plan.points, space.cells[:FRAMES])))


def obstacles_near(point: NDArray[np.float32], occupied: NDArray[Any]) -> NDArray[np.float64]:
    """Obstacles [K, 2] in metres within reach of a point: one for each occupied cell of a frame [n, n].

    The reference keeps their places as integers, truncated towards zero, so that several may coincide.
    """
    cells = np.argwhere(np.asarray(occupied) != 0)[:, ::-1]
    places = np.trunc((cells - occupied.shape[-1] / 2) * CELL_METRES + CELL_METRES / 2).astype(np.float32)
    near = ((point - places) ** 2).sum(-1) < REACH_METRES**2
    obstacles: NDArray[np.float64] = places[near].astype(np.float64)
    return obstacles


def _optimise_step(point: NDArray[np.float32], obstacles: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest local minimum from the point itself."""
    start = point.astype(np.float64)
    if not len(obstacles):
        return start
    from scipy.optimize import minimize

    def bumps(place: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Offsets from the obstacles [K, 2] and heights of their bumps [K] at a place."""
        offsets = place - obstacles
        return offsets, WEIGHT * np.exp(-(offsets**2).sum(-1) / (2 * SIGMA**2))

    def cost(place: NDArray[np.float64]) -> float:
        return float(((place - start) ** 2).sum() + bumps(place)[1].sum())

    def gradient(place: NDArray[np.float64]) -> NDArray[np.float64]:
        offsets, heights = bumps(place)
        result: NDArray[np.float64] = 2 * (place - start) - heights @ offsets / SIGMA**2
        return result

    def curvature(place: NDArray[np.float64]) -> NDArray[np.float64]:
        offsets, heights = bumps(place)
        outer = np.einsum("k,ki,kj->ij", heights, offsets, offsets) / SIGMA**4
        result: NDArray[np.float64] = 2 * np.eye(2) + outer - heights.sum() / SIGMA**2 * np.eye(2)
        return result

    if not gradient(start).any():  # on top of a lone obstacle every direction is as good, and the reference stays
        return start
    found = minimize(cost, start, jac=gradient, hess=curvature, method="trust-exact", options={"gtol": 1e-8})
    place: NDArray[np.float64] = found.x
    return place
