"""What the sensors of the ego vehicle record in one scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toolkit.data.frames import Pose
from toolkit.synthetic.sensors.rig import Camera
from toolkit.synthetic.traffic.actors import Actor


@dataclass(frozen=True, eq=False)
class Capture:
    """One sensor's file of a key frame: path relative to the dataroot, time in µs, the ego pose at that time."""

    channel: str
    timestamp: int
    filename: str
    ego_pose: Pose
    size: tuple[int, int]
    """Width and height of an image, 0 for a point cloud."""


@dataclass(frozen=True, eq=False)
class Observation:
    """An actor at a key frame: global pose of its box's centre, metres to the ego vehicle, LiDAR points on it, share
    of its picture area that nothing hides (0 where it is in no picture), its attribute.
    """

    pose: Pose
    distance: float
    lidar_points: int
    visibility: float
    attribute: str

    @property
    def is_seen(self) -> bool:
        """Whether a person who labels would notice it."""
        return self.lidar_points > 0 or (self.visibility > 0.2 and self.distance < 60)


@dataclass(frozen=True, eq=False)
class KeyFrame:
    """Two of them are half a second apart. `observations` by the actor's name, of all actors near the ego vehicle."""

    timestamp: int
    captures: tuple[Capture, ...]
    observations: Mapping[str, Observation]


@dataclass(frozen=True, eq=False)
class Recording:
    """A scene: its official name and location, its log and day, the cameras, who was there, what was seen."""

    name: str
    location: str
    log: str
    date: str
    description: str
    cameras: tuple[Camera, ...]
    actors: tuple[Actor, ...]
    key_frames: tuple[KeyFrame, ...]
