"""Futures that a vehicle could drive: annotated paths are jagged, and begin where the annotation is.

A kinematic bicycle starts where and as fast as the network sees the agent and follows the annotated path, by the least
squares of its distance, of its heading and of how hard it is steered and accelerated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from plugins.motion.interior_point import Array, solve

SECONDS = 0.5
"""Between two steps of a future."""
CURVATURE_LIMIT = 0.2  # 1/m
ACCELERATION_LIMIT = 4.0  # m/s²
SPEED_LIMIT = 35.0  # m/s
YAW_RATE_LIMIT = 1.75  # rad/s
LATERAL_LIMIT = 4.0  # m/s²

POSITION_WEIGHT, YAW_WEIGHT = 1.0, 0.1
LAST_POSITION_WEIGHT, LAST_YAW_WEIGHT = 1.0, 40.0
"""At the last step, in addition and times a quarter of the number of steps."""
CONTROL_WEIGHT, CONTROL_RATE_WEIGHT = 0.08, 0.08
LATERAL_WEIGHT = 0.06

LEAST_DISPLACEMENT = 2.0  # m
LARGEST_OFFSET = 2.0  # m
LARGEST_TURN = math.radians(30)
LARGEST_DISTANCE = 1.5  # m
BEGINNING_ACCELERATION = 0.1  # m/s²

STAGE_TIMES = np.array((0.0, 0.5, 0.5, 1.0)) * SECONDS
STAGE_WEIGHTS = np.array((1.0, 2.0, 2.0, 1.0)) / 6 * SECONDS
"""Runge and Kutta's fourth order"""


@dataclass(frozen=True)
class Drives:
    """B vehicles that follow paths of T steps; what is sought is their controls, T curvatures and T accelerations."""

    starts: Array
    """[B, 4]: x, y (m), heading (rad), speed (m/s)"""
    references: Array
    """[B, T + 1, 3]: x, y (m) and heading (rad) to follow, from the present on. Headings count as they are: one that is
    a full turn off is off by that."""

    def of(self, rows: NDArray[np.intp]) -> Self:
        """The vehicles of some rows."""
        return type(self)(self.starts[rows], self.references[rows])

    def values(self, controls: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """What is to be small, and what must not fall below 0, for K ways to drive [B, K, 2T] of each."""
        states = drive(self.starts[:, None], controls)
        curvature, acceleration = np.split(controls, 2, axis=-1)
        lateral = states[..., :-1, 3] ** 2 * curvature
        yaw_rate = np.diff(states[..., 2]) / SECONDS

        steps = curvature.shape[-1]
        weights = np.tile((POSITION_WEIGHT, POSITION_WEIGHT, YAW_WEIGHT), (steps + 1, 1))
        weights[-1] += steps / 4 * np.array((LAST_POSITION_WEIGHT, LAST_POSITION_WEIGHT, LAST_YAW_WEIGHT))
        missed = np.sqrt(weights) * (states[..., :3] - self.references[:, None])
        residuals = (
            missed.reshape(*missed.shape[:-2], 3 * (steps + 1)),
            math.sqrt(CONTROL_WEIGHT) * controls,
            math.sqrt(CONTROL_RATE_WEIGHT) * np.diff(curvature) / SECONDS,
            math.sqrt(CONTROL_RATE_WEIGHT) * np.diff(acceleration) / SECONDS,
            math.sqrt(LATERAL_WEIGHT) * lateral,
        )
        speed = states[..., 1:, 3]
        limited = (
            (curvature, CURVATURE_LIMIT),
            (acceleration, ACCELERATION_LIMIT),
            (yaw_rate, YAW_RATE_LIMIT),
            (lateral, LATERAL_LIMIT),
        )
        margins = [speed, SPEED_LIMIT - speed]
        margins += [margin for value, limit in limited for margin in (limit - value, limit + value)]
        return np.concatenate(residuals, -1), np.concatenate(margins, -1)


def drive(starts: NDArray[Any], controls: NDArray[Any]) -> NDArray[Any]:
    """States [..., T + 1, 4] (as `Drives.starts`) of vehicles that start in [..., 4], under controls [..., 2T].

    Controls are constant during a step, which is one of Runge and Kutta's. Its four stages are written out: speed and
    heading do not hang on the position.
    """
    curvature, acceleration = np.split(controls, 2, axis=-1)
    speed = accumulated(starts[..., 3], acceleration * SECONDS)
    before, half_way = speed[..., :-1], speed[..., :-1] + acceleration * SECONDS / 2
    driven = np.stack((0 * before, before * SECONDS / 2, half_way * SECONDS / 2, half_way * SECONDS), -1)
    turned = curvature[..., None] * driven
    yaw = accumulated(starts[..., 2], turned[..., -1])
    stage_yaw = yaw[..., :-1, None] + turned
    moved = STAGE_WEIGHTS * (before[..., None] + acceleration[..., None] * STAGE_TIMES)
    x = accumulated(starts[..., 0], (moved * np.cos(stage_yaw)).sum(-1))
    y = accumulated(starts[..., 1], (moved * np.sin(stage_yaw)).sum(-1))
    return np.stack((x, y, yaw, speed), -1)


def accumulated(start: NDArray[Any], changes: NDArray[Any]) -> NDArray[Any]:
    """[..., T + 1]: start [...], and what it has become after each of the changes [..., T]."""
    first = np.broadcast_to(start[..., None], (*changes.shape[:-1], 1))
    return np.cumsum(np.concatenate((first, changes), -1), -1)


def smooth(starts: Array, references: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Paths [B, T + 1, 2] (m) that follow references, and which of them are good [B]; arguments as in `Drives`.

    Good are those that keep within 1.5 m of the reference on average. All can be driven.
    """
    paths = drive(starts, best_controls(starts, references))[..., :2]
    distance = np.linalg.norm(paths - references[..., :2], axis=-1).mean(-1)
    return paths, np.asarray(distance < LARGEST_DISTANCE)


def best_controls(starts: Array, references: Array) -> Array:
    """[B, 2T], with which to follow references; arguments as in `Drives`, speeds from 0 to below 35 m/s."""
    steps = references.shape[1] - 1
    controls = np.zeros((len(starts), 2 * steps))
    # No limit may be met at the beginning: who stands begins to drive, who is fast to brake.
    controls[:, steps:] = np.where(starts[:, 3:] < SPEED_LIMIT / 2, BEGINNING_ACCELERATION, -BEGINNING_ACCELERATION)
    return solve(Drives(starts, references), controls)


def can_be_smoothed(starts: Array, references: Array) -> NDArray[np.bool_]:
    """[B]: the agent gets somewhere, and the network sees it about where and how it is; arguments as in `Drives`."""
    now, end = references[:, 0], references[:, -1]
    return np.asarray(
        (np.linalg.norm(end[:, :2] - now[:, :2], axis=-1) > LEAST_DISPLACEMENT)
        & (np.linalg.norm(starts[:, :2] - now[:, :2], axis=-1) <= LARGEST_OFFSET)
        & (np.abs(starts[:, 2] - now[:, 2]) <= LARGEST_TURN)
        & (starts[:, 3] < SPEED_LIMIT)
    )
