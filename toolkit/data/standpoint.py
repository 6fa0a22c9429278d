"""Where the vehicle is at one moment, and how another moment looks from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from toolkit.data.frames import Command, Float64Array, Pose

COMMAND_STEPS = 6
"""Key frames ahead, half a second each, that decide about the command."""
COMMAND_METRES = 2.0
"""To the side, from where on the drive counts as a turn."""
EGO_BOX_BOTTOM = np.array([0.0, 0.0, -0.78])
"""In the LiDAR frame: the reference follows the ego as a box of 1.56 m height about the LiDAR, by its bottom."""


class Standpoint(Protocol):
    """Anything that knows where its LiDAR and its ego are; `ego2global` at the LiDAR's time."""

    @property
    def lidar2ego(self) -> Pose: ...

    @property
    def ego2global(self) -> Pose: ...


def seen_from(now: Standpoint, then: Standpoint, points: Float64Array) -> Float64Array:
    """Points [..., 3] of the LiDAR frame of `then` in that of `now`, through both egos and the world (metres)."""
    for pose in (then.lidar2ego, then.ego2global):
        points = points @ pose.rotation.T + pose.translation
    for pose in (now.ego2global, now.lidar2ego):
        points = (points - pose.translation) @ pose.rotation
    return points


def turned(now: Standpoint, then: Standpoint) -> float:
    """What to add to a heading in the LiDAR frame of `then` to get that in the frame of `now`; not wrapped (radians).

    The reference adds up the turns of the four poses between them, each about its own z axis, so that the sum depends
    a little on how the vehicle tilts.
    """
    return then.lidar2ego.yaw + then.ego2global.yaw - now.ego2global.yaw - now.lidar2ego.yaw


def driving_command(start: Standpoint, later: Sequence[Standpoint]) -> Command:
    """Where the ego is on its last known one of the next `COMMAND_STEPS` key frames, seen from the LiDAR at `start`.

    Right or left of `COMMAND_METRES`, or else straight: also when no later key frame is known.
    """
    if not later:
        return Command.STRAIGHT
    x = seen_from(start, later[:COMMAND_STEPS][-1], EGO_BOX_BOTTOM)[0]
    if x >= COMMAND_METRES:
        return Command.RIGHT
    return Command.LEFT if x <= -COMMAND_METRES else Command.STRAIGHT
