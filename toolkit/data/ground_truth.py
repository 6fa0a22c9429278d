"""What a data set knows about its scenes: where the vehicle drives, what is around it, and the map.

A source of frames that has ground truth gives a `GroundTruth`; what a metric judges by is made of it where the metric
is. What the data set does not know is a `Gap`, which evaluations count and name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.frames import Float64Array, Pose
from toolkit.storage.typed import Count, Text

Layers = Mapping[str, NDArray[np.object_]]
"""By layer, the geometries of a map (shapely, global frame, metres): lines, or polygons."""
MapLayers = Callable[[str, Sequence[str]], Layers | None]
"""Layers of the map of a place by their names; None if there is no map of it. Raises InputError for a damaged one."""


@dataclass(frozen=True, eq=False)
class Objects:
    """N labelled objects of one moment, in the data set's order. Headings are counter-clockwise from the x axis."""

    instance: tuple[str, ...]
    """The same object has the same name in all frames of its scene."""
    number: NDArray[np.int64]
    """[N], likewise, as a number from 0 on that is its own in the whole data set."""
    label: tuple[str, ...]
    """Class by its name in nuScenes detection, such as "car", or the data set's own name for other things."""
    attribute: tuple[str, ...]
    """What it does, by nuScenes' name, such as "vehicle.moving"; empty where unknown, or of no meaning."""
    size: Float64Array
    """[N, 3]: width, length, height (m)."""
    position: Float64Array
    """[N, 3]: gravity centre in the global frame (m)."""
    ahead: Float64Array
    """[N, 3]: where each heads, a unit vector in the global frame."""
    center: Float64Array
    """[N, 3]: gravity centre in the LiDAR frame (m)."""
    heading: Float64Array
    """[N]: in the LiDAR frame, radians in [-π, π]."""
    velocity: Float64Array
    """[N, 2]: along x and y of the LiDAR frame (m/s); NaN where unknown."""
    lidar_points: NDArray[np.int64]
    """[N]: LiDAR points on the object."""
    radar_points: NDArray[np.int64]
    """[N]: radar points on it; 0 where the data set does not say."""
    visibility: NDArray[np.int64]
    """[N]: share of the object that can be seen, 1 (up to 40 %) to 4 (80 % or more); 0 if unknown."""

    @property
    def hit(self) -> NDArray[np.bool_]:
        """[N]: whether a sensor has hit the object at all."""
        return self.lidar_points + self.radar_points > 0


@dataclass(frozen=True, eq=False)
class AnnotatedFrame:
    """A key frame with what is known about it. `ego2global` is the ego's pose at LiDAR time."""

    token: str
    """The frame's name without its number: that of `Frame.name` after the first underscore."""
    microseconds: int
    lidar2ego: Pose
    ego2global: Pose
    objects: Objects | None
    """None where nothing has been annotated, as in a test set."""


@dataclass(frozen=True, eq=False)
class AnnotatedScene:
    """A recording: its key frames in the order of time, without a gap. `location` names its map, None if unknown."""

    name: str
    location: str | None
    frames: tuple[AnnotatedFrame, ...]


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The chosen scenes of a data set in the order of time, and how to get the layers of their maps."""

    scenes: tuple[AnnotatedScene, ...]
    map_layers: MapLayers


@dataclass(frozen=True)
class Gap:
    """Ground truth that a frame lacks: `what` reads like "annotations", or "the map of boston-seaport"."""

    token: str
    what: str


@dataclass(frozen=True)
class GapCount:
    """How many frames lack something, and which is the first of them."""

    what: Text
    frames: Count
    first: Text

    def __str__(self) -> str:
        return f"{self.what}: missing in {self.frames} frame{'s' * (self.frames > 1)}, first {self.first}"


def counted(gaps: Iterable[Gap]) -> list[GapCount]:
    """Gaps by what is missing, in the order of their first frames."""
    tokens: dict[str, list[str]] = {}
    for gap in gaps:
        tokens.setdefault(gap.what, []).append(gap.token)
    return [GapCount(what, len(members), members[0]) for what, members in tokens.items()]


def objects_at(
    lidar2ego: Pose,
    ego2global: Pose,
    *,
    instance: Sequence[str],
    number: NDArray[Any],
    label: Sequence[str],
    size: Float64Array,
    position: Float64Array,
    quaternion: Float64Array,
    velocity: Float64Array,
    lidar_points: NDArray[Any],
    radar_points: NDArray[Any],
    visibility: NDArray[Any],
    attribute: Sequence[str] | None = None,
) -> Objects:
    """Objects as the LiDAR has them that is at these poses.

    Orientation `quaternion` [N, 4] (w, x, y, z) and `velocity` [N, 2] (m/s, NaN where unknown) are those in the global
    frame. As in the reference, a velocity's vertical part is left out, and the heading in the LiDAR frame is that of
    the object's left side, which a tilted vehicle sees in another direction than its front.
    """
    to_lidar = (ego2global.rotation @ lidar2ego.rotation).T
    origin = ego2global.rotation @ lidar2ego.translation + ego2global.translation
    ahead, left = _axes(quaternion)
    front, side = ahead @ to_lidar.T, left @ to_lidar.T
    return Objects(
        instance=tuple(instance),
        number=np.asarray(number, np.int64),
        label=tuple(label),
        attribute=("",) * len(label) if attribute is None else tuple(attribute),
        size=size,
        position=position,
        ahead=ahead,
        center=(position - origin) @ to_lidar.T,
        heading=np.arctan2(-side[:, 0], front[:, 0]),
        velocity=velocity @ to_lidar[:2, :2].T,
        lidar_points=np.asarray(lidar_points, np.int64),
        radar_points=np.asarray(radar_points, np.int64),
        visibility=np.asarray(visibility, np.int64),
    )


def _axes(quaternion: Float64Array) -> tuple[Float64Array, Float64Array]:
    """The x and the y axis [N, 3] of what is turned by quaternions [N, 4]."""
    w, x, y, z = (quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)).T
    ahead = np.stack((1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)), -1)
    left = np.stack((2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)), -1)
    return ahead, left
