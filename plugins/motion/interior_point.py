"""Nonlinear least squares under inequalities, for many small problems at once, by an interior-point method.

A primal-dual method on a logarithmic barrier (Nocedal and Wright, Numerical Optimization, chapter 19), with the matrix
of Gauss and Newton. Every iterate meets all inequalities: the last one is a fair answer even if it is no minimum yet.
"""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

ITERATIONS = 100
GRADIENT_TOLERANCE = 1e-5
GAP_TOLERANCE = 1e-7
SMALLEST_BARRIER = 1e-10
CENTERING = 0.15
"""Share of the present gap that a step aims at."""
DECREASE = 1e-4
"""Share of the promised decrease that a step must bring."""
ROUNDING = 1e-9
"""By how much of its value the barrier function may rise, since it cannot be told more exactly."""
NEAREST = 0.01
"""Share of a margin that is left by a step."""
LARGEST_FALL = 0.995
"""Share of itself that a multiplier loses at most in a step."""
STEP_LENGTHS = 0.5 ** np.arange(12)
IMAGINARY_STEP = 1e-20


class Problems(Protocol):
    """B problems of n unknowns: the least sum of squared residuals at which no margin is below 0."""

    def values(self, points: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Residuals [B, K, R] and margins [B, K, M] at K points [B, K, n] of each problem.

        Analytic functions that take complex points: derivatives are taken by imaginary steps.
        """
        ...

    def of(self, rows: NDArray[np.intp]) -> Self:
        """The problems of some rows."""
        ...


def solve(problems: Problems, points: Array) -> Array:
    """Local minima [B, n], or how far towards them 100 iterations get, from points [B, n] with all margins above 0."""
    points = points.copy()
    multipliers = 1 / problems.values(points[:, None])[1][:, 0]
    rows = np.arange(len(points))
    for _ in range(ITERATIONS):
        if not len(rows):
            break
        left, prices = problems.of(rows), multipliers[rows]
        residuals, margins, residual_slopes, margin_slopes = linearized(left, points[rows])
        gradient = 2 * product(residual_slopes, residuals)
        unbalanced = np.abs(gradient - product(margin_slopes, prices)).max(-1)
        arrived = (unbalanced < GRADIENT_TOLERANCE) & ((prices * margins).max(-1) < GAP_TOLERANCE)

        barrier = np.maximum(CENTERING * (prices * margins).mean(-1, keepdims=True), SMALLEST_BARRIER)
        slope = gradient - product(margin_slopes, barrier / margins)
        curvature = 2 * gram(residual_slopes) + gram(margin_slopes * np.sqrt(prices / margins)[:, None])
        step = np.linalg.solve(curvature, -slope[..., None])[..., 0]
        lengths = step_lengths(left, points[rows], step, residuals, margins, barrier, (slope * step).sum(-1))
        price_step = (barrier - prices * product(margin_slopes.swapaxes(-1, -2), step)) / margins - prices
        price_lengths = LARGEST_FALL / np.maximum((-price_step / prices).max(-1), LARGEST_FALL)
        points[rows] += lengths[:, None] * step
        multipliers[rows] += price_lengths[:, None] * price_step
        rows = rows[(lengths > 0) & ~arrived]
    return points


def linearized(problems: Problems, points: Array) -> tuple[Array, Array, Array, Array]:
    """Residuals [B, R] and margins [B, M] at points [B, n], and their derivatives [B, n, R] and [B, n, M]."""
    stepped = problems.values(points[:, None] + 1j * IMAGINARY_STEP * np.eye(points.shape[-1]))
    residuals, margins = (found[:, 0].real for found in stepped)
    residual_slopes, margin_slopes = (found.imag / IMAGINARY_STEP for found in stepped)
    return residuals, margins, residual_slopes, margin_slopes


def step_lengths(
    problems: Problems, points: Array, step: Array, residuals: Array, margins: Array, barrier: Array, slope: Array
) -> Array:
    """[B], the longest of a series of lengths that keeps inside and brings the barrier function down; 0 if none does.

    points and step [B, n]; residuals, margins there; barrier [B, 1]; slope [B], of the barrier function along the step.
    """
    trial_residuals, trial_margins = problems.values(points[:, None] + STEP_LENGTHS[:, None] * step[:, None])
    inside = np.all(trial_margins > NEAREST * margins[:, None], axis=-1, keepdims=True)
    before = (residuals**2).sum(-1) - (barrier * np.log(margins)).sum(-1)
    logarithms = np.log(np.where(inside, trial_margins, 1))
    after = (trial_residuals**2).sum(-1) - (barrier[:, None] * logarithms).sum(-1)
    wanted = before[:, None] + DECREASE * STEP_LENGTHS * slope[:, None] + ROUNDING * np.abs(before)[:, None]
    accepted = inside[..., 0] & (after <= wanted)
    return np.where(accepted.any(-1), STEP_LENGTHS[accepted.argmax(-1)], 0.0)


def product(matrix: Array, vector: Array) -> Array:
    """[B, n] of [B, n, m] and [B, m]."""
    return np.asarray(matrix @ vector[..., None])[..., 0]


def gram(matrix: Array) -> Array:
    """[B, n, n], each matrix [B, n, m] times itself transposed."""
    return np.asarray(matrix @ matrix.swapaxes(-1, -2))
