"""The vehicle itself, its way, and what is near it, as pictures show them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from toolkit.data.frames import Float64Array, Frame
from toolkit.runtime.results import FrameResult, TrackedBox

EGO_SIZE = (1.73, 4.08)
"""Width and length (m) of the ego box, about the LiDAR, that the reference was trained with."""
SLOW = 0.5
"""Below this speed (m/s) no velocity arrow is drawn."""
_SAMPLES = 12
"""Of a smooth path, for each planned step."""


def nearest_first(boxes: Iterable[TrackedBox]) -> list[TrackedBox]:
    """By their distance over the ground."""
    return sorted(boxes, key=distance)


def distance(box: TrackedBox) -> float:
    """Metres over the ground from the LiDAR to the middle of the box."""
    return float(np.hypot(*box.center[:2]))


def smooth_path(points: NDArray[np.floating]) -> Float64Array:
    """[n, 2]: from the origin through all of `points` [steps, 2], as a Catmull-Rom spline."""
    knots = np.concatenate([np.zeros((1, 2)), points.astype(np.float64)])
    slopes = np.gradient(knots, axis=0)
    t = np.linspace(0, 1, _SAMPLES, endpoint=False)[None, :, None]
    start, end, rise, fall = (part[:, None] for part in (knots[:-1], knots[1:], slopes[:-1], slopes[1:]))
    path = (
        (2 * t**3 - 3 * t**2 + 1) * start
        + (t**3 - 2 * t**2 + t) * rise
        + (3 * t**2 - 2 * t**3) * end
        + (t**3 - t**2) * fall
    )
    return np.concatenate([path.reshape(-1, 2), knots[-1:]])


def speeds(result: FrameResult, frame: Frame | None) -> list[str]:
    """How fast the vehicle is, as far as its bus says so, and how fast and how far it is going to drive."""
    facts = []
    if frame is not None and any(reading.any() for reading in (frame.can.velocity, frame.can.acceleration)):
        facts.append(f"ego {np.hypot(*frame.can.velocity[:2]):.1f} m/s")
    if result.plan is not None:
        steps = np.linalg.norm(np.diff(result.plan.points, axis=0, prepend=0.0), axis=1)
        seconds = len(steps) * result.plan.step_seconds
        facts.append(f"plan {steps.sum() / seconds:.1f} m/s, {steps.sum():.1f} m in {seconds:g} s")
    return facts
