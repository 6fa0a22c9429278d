"""A frame: what six cameras and the vehicle say at one moment, before any preprocessing.

Frames come from a `FrameSource`: whatever `toolkit.data.sources` opens, or plainly a list of frames.
LiDAR frame: x right, y forward, z up, metres. Ego frame: x forward, y left, z up, metres.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]


class Command(IntEnum):
    """Where the route leads; the planner's only knowledge of it."""

    RIGHT = 0
    LEFT = 1
    STRAIGHT = 2


@dataclass(frozen=True, eq=False)
class Pose:
    """A rigid transform between frames of reference: p_target = rotation @ p_source + translation (metres).

    The rotation is kept as a unit `quaternion` [4] (w, x, y, z), since its sign is one of the network's inputs.
    """

    quaternion: Float64Array
    translation: Float64Array

    @classmethod
    def from_matrix(cls, rotation: Float64Array, translation: Float64Array) -> Pose:
        """From a rotation matrix [3, 3]; of the two equivalent quaternions the one with w ≥ 0."""
        return cls(_quaternion(np.asarray(rotation, np.float64)), np.asarray(translation, np.float64))

    @cached_property
    def rotation(self) -> Float64Array:
        """The rotation matrix [3, 3]."""
        w, x, y, z = self.quaternion / np.linalg.norm(self.quaternion)
        return np.array([
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ])  # fmt: skip

    @property
    def yaw(self) -> float:
        """Heading of the x axis about z, radians in (-π, π], counter-clockwise."""
        forward = self.rotation[:, 0]
        return float(np.arctan2(forward[1], forward[0]))


@dataclass(frozen=True, eq=False)
class CameraView:
    """One camera's picture and calibration.

    `image` is a JPEG file, or an RGB array [height, width, 3] of uint8. `intrinsics` [3, 3] are those of the full-size
    picture, in pixels. `sensor2lidar` leads from the camera frame (x right, y down, z forward) to the LiDAR frame; for
    a moving vehicle it includes the motion between exposure and LiDAR time.
    """

    image: Path | NDArray[np.uint8]
    intrinsics: Float64Array
    sensor2lidar: Pose


def _zeros() -> Float64Array:
    return np.zeros(3)


@dataclass(frozen=True, eq=False)
class CanReading:
    """Readings of the vehicle bus in the ego frame, [3] each: m/s², rad/s, m/s. Zero where unknown."""

    acceleration: Float64Array = field(default_factory=_zeros)
    rotation_rate: Float64Array = field(default_factory=_zeros)
    velocity: Float64Array = field(default_factory=_zeros)


@dataclass(frozen=True, eq=False)
class Frame:
    """Everything that one frame brings from outside.

    `name` identifies the frame in file names and reports; `scene` the recording it belongs to, whose frames follow
    each other without a gap in the sequence; `timestamp` counts seconds since the scene's first frame.
    """

    name: str
    scene: str
    timestamp: float
    cameras: Mapping[str, CameraView]
    lidar2ego: Pose
    ego2global: Pose
    command: Command
    can: CanReading = field(default_factory=CanReading)
    recorded: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Inputs of the network by name that another program has computed: they are fed instead of ours."""


class FrameSource(Protocol):
    """Frames in temporal order, scene after scene."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Frame]: ...


def _quaternion(matrix: NDArray[Any]) -> Float64Array:
    """Unit quaternion (w, x, y, z), w ≥ 0: the eigenvector of a symmetric 4x4 matrix (Bar-Itzhack, 2000)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = matrix
    symmetric = np.array([
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, yy - xx - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, zz - xx - yy],
    ])  # fmt: skip
    quaternion = np.linalg.eigh(symmetric)[1][:, -1]
    return quaternion if quaternion[0] >= 0 else -quaternion
