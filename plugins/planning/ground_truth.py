"""Where the vehicle really drove: what a plan is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.data.frames import Command, Float64Array
from toolkit.data.ground_truth import AnnotatedScene, Gap
from toolkit.data.standpoint import EGO_BOX_BOTTOM, driving_command, seen_from, turned

STEPS = 6
"""Key frames ahead, half a second each."""


@dataclass(frozen=True, eq=False)
class DrivenPath:
    """The ego in the LiDAR frame of a moment, at the following key frames; 0 where the scene has ended.

    It is followed by the bottom of a box about the LiDAR, so that the vehicle's tilt moves it a little.
    """

    points: Float64Array
    """[6, 2]: x and y (m)."""
    heading: Float64Array
    """[6]: counter-clockwise from x and not wrapped; straight ahead is π/2 (radians)."""
    mask: Float64Array
    """[6, 2]: 1 where the key frame exists."""
    command: Command
    """Where the route leads."""
    gap: Gap | None
    """Set if any of the key frames is missing."""


def driven_path(scene: AnnotatedScene, index: int) -> DrivenPath:
    """What the vehicle drove after key frame `index` of a scene."""
    now, later = scene.frames[index], scene.frames[index + 1 :]
    points, heading, mask = np.zeros((STEPS, 2)), np.zeros(STEPS), np.zeros((STEPS, 2))
    for step, then in enumerate(later[:STEPS]):
        points[step] = seen_from(now, then, EGO_BOX_BOTTOM)[:2]
        heading[step] = np.pi / 2 + turned(now, then)
        mask[step] = 1
    gap = None if mask.all() else Gap(now.token, "part of the driven path")
    return DrivenPath(points, heading, mask, driving_command(now, later), gap)
