"""The architecture and the conversion choices of one UniAD model, as plain values.

A `ModelConfig` is all that is needed, besides weights, to build the network; it is stored in the bundle.
Defaults are those of the official UniAD-tiny end-to-end configuration.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

CLASS_NAMES = (
    "car", "truck", "construction_vehicle", "bus", "trailer",
    "barrier", "motorcycle", "bicycle", "pedestrian", "traffic_cone",
)  # fmt: skip
CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")


class CanBusRotation(StrEnum):
    """What a training fed of the ego-to-global quaternion (w, x, y, z), in four entries of the vector `can_bus`."""

    SCALAR = "scalar"
    """(w, w, w, w), as UniAD v1 and UniAD-tiny: they assign an object of which numpy keeps the scalar part."""
    QUATERNION = "quaternion"
    """(w, x, y, z), as UniAD v2.0."""


class YawConvention(StrEnum):
    """What a training meant by a box's yaw. The heading counts counter-clockwise from the LiDAR frame's x axis."""

    CLOCKWISE = "clockwise"
    """Clockwise from -y, so that the heading is -yaw - π/2, as UniAD v1 and UniAD-tiny."""
    HEADING = "heading"
    """The heading itself, as UniAD v2.0."""


class AngleFormula(StrEnum):
    """How the network computes the ego's direction of travel and a box's yaw from two components."""

    ATAN = "atan"
    """By atan and quadrant, as UniAD-tiny's deployment: travel straight along an axis may be taken for another."""
    ATAN2 = "atan2"
    """Exactly, as UniAD-base."""


class BackboneStyle(StrEnum):
    """Which convolution of a stage's first bottleneck has the stride."""

    PYTORCH = "pytorch"
    """The 3x3."""
    CAFFE = "caffe"
    """The first 1x1."""


class ChannelOrder(StrEnum):
    """In which order the network takes the colours of a picture; means and deviations have the same."""

    RGB = "rgb"
    """As UniAD-tiny, whose backbone was trained by PyTorch."""
    BGR = "bgr"
    """As UniAD-base, whose backbone was trained by Caffe."""


@dataclass(frozen=True)
class ImageConfig:
    """Camera images: source size, scaling and normalisation; the backbone, a ResNet, and the levels of its neck.

    The finest of the feature maps has `stride` image pixels a cell, each of the others twice as many as the one before.
    """

    cameras: tuple[str, ...] = CAMERAS
    source_width: int = 1600
    source_height: int = 900
    scale: float = 0.25
    pad_multiple: int = 32
    channel_order: ChannelOrder = ChannelOrder.RGB
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    stage_blocks: tuple[int, ...] = (3, 4, 6, 3)
    base_channels: int = 64
    backbone_style: BackboneStyle = BackboneStyle.PYTORCH
    deformable_stages: tuple[bool, ...] = (False, False, False, False)
    stride: int = 32
    levels: int = 1

    @property
    def resized(self) -> tuple[int, int]:
        """(height, width) after scaling, rounded down as the reference does."""
        return int(self.source_height * self.scale), int(self.source_width * self.scale)

    @property
    def padded(self) -> tuple[int, int]:
        """(height, width) after padding to `pad_multiple`."""
        height, width = (-(-size // self.pad_multiple) * self.pad_multiple for size in self.resized)
        return height, width

    @property
    def features(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each feature map, the finest first; sides are halved from one to the next, rounded up."""
        height, width = self.padded
        strides = [self.stride * 2**level for level in range(self.levels)]
        return tuple((-(-height // stride), -(-width // stride)) for stride in strides)

    @property
    def joined_features(self) -> tuple[int, int]:
        """(height, width) of what holds all feature maps: the only one as it is, several as a row of their cells."""
        if self.levels == 1:
            return self.features[0]
        return 1, sum(height * width for height, width in self.features)


@dataclass(frozen=True)
class BevConfig:
    """Bird's-eye-view grid over the LiDAR frame. Row follows y (rear to front), column follows x."""

    height: int = 50
    width: int = 50
    x_range: tuple[float, float] = (-51.2, 51.2)
    y_range: tuple[float, float] = (-51.2, 51.2)
    z_range: tuple[float, float] = (-5.0, 3.0)
    layers: int = 3
    pillar_points: int = 4
    spatial_points: int = 8
    temporal_points: int = 4
    rotate_center: tuple[float, float] = (100.0, 100.0)

    @property
    def cells(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class TrackingConfig:
    """Track queries, thresholds and capacities. `track_capacity` counts fresh queries and survivors."""

    queries: int = 901
    layers: int = 6
    birth_score: float = 0.4
    keep_score: float = 0.35
    miss_tolerance: int = 5
    memory_length: int = 4
    save_period: int = 3
    save_score: float = 0.0
    max_reports: int = 300
    report_range: tuple[float, float, float, float, float, float] = (-61.2, -61.2, -10.0, 61.2, 61.2, 10.0)
    track_capacity: int = 1150
    agent_capacity: int = 128


@dataclass(frozen=True)
class MapConfig:
    """Panoptic map segmentation. Its deformable attention is built for `attention_levels`; it is fed one, the BEV."""

    queries: int = 300
    thing_classes: tuple[str, ...] = ("divider", "crossing", "boundary")
    stuff_classes: tuple[str, ...] = ("drivable",)
    encoder_layers: int = 6
    decoder_layers: int = 6
    attention_levels: int = 1
    thing_mask_layers: int = 4
    stuff_mask_layers: int = 6
    max_instances: int = 100
    mask_threshold: float = 0.5
    score_threshold: float = 0.1
    overlap_threshold: float = 0.4


@dataclass(frozen=True)
class MotionConfig:
    """Motion forecasting. `class_groups` picks an agent's anchors by its label."""

    modes: int = 6
    steps: int = 12
    step_seconds: float = 0.5
    layers: int = 3
    class_groups: tuple[tuple[int, ...], ...] = ((0, 1, 2, 3, 4), (6, 7), (8,), (5, 9))


@dataclass(frozen=True)
class OccupancyConfig:
    """Occupancy of the vehicle classes, now and `steps` - 1 ahead, on a grid of as many cells as the BEV.

    The BEV is `resampled` to them; or else its own cells are taken for them, whatever their size, as UniAD-tiny does.
    """

    steps: int = 5
    vehicle_classes: tuple[int, ...] = (0, 1, 2, 3, 4, 6, 7)
    attention_threshold: float = 0.3
    score_threshold: float = 0.1
    cell_metres: float = 0.5
    resampled: bool = False


@dataclass(frozen=True)
class PlanningConfig:
    """Ego plan: `steps` displacements, `step_seconds` apart."""

    steps: int = 6
    step_seconds: float = 0.5
    layers: int = 3
    commands: int = 3


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the network besides its weights, and what its inputs and outputs mean."""

    embed: int = 256
    heads: int = 8
    feedforward: int = 512
    class_names: tuple[str, ...] = CLASS_NAMES
    can_bus_rotation: CanBusRotation = CanBusRotation.SCALAR
    yaw_convention: YawConvention = YawConvention.CLOCKWISE
    angle_formula: AngleFormula = AngleFormula.ATAN
    image: ImageConfig = field(default_factory=ImageConfig)
    bev: BevConfig = field(default_factory=BevConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    map: MapConfig = field(default_factory=MapConfig)
    motion: MotionConfig = field(default_factory=MotionConfig)
    occupancy: OccupancyConfig = field(default_factory=OccupancyConfig)
    planning: PlanningConfig = field(default_factory=PlanningConfig)

    def dimensions(self) -> dict[str, int]:
        """Values of the symbolic dimensions that tensor specs use."""
        return {
            "cameras": len(self.image.cameras),
            "image_height": self.image.padded[0],
            "image_width": self.image.padded[1],
            "feature_height": self.image.joined_features[0],
            "feature_width": self.image.joined_features[1],
            "embed": self.embed,
            "query": 2 * self.embed,
            "bev_height": self.bev.height,
            "bev_width": self.bev.width,
            "bev_cells": self.bev.cells,
            "tracks": self.tracking.track_capacity,
            "fresh_tracks": self.tracking.queries,
            "memory": self.tracking.memory_length,
            "reports": self.tracking.max_reports,
            "agents": self.tracking.agent_capacity,
            "agents_and_ego": self.tracking.agent_capacity + 1,
            "lanes": self.map.queries,
            "map_instances": self.map.max_instances,
            "map_masks": self.map.max_instances + len(self.map.stuff_classes),
            "modes": self.motion.modes,
            "motion_steps": self.motion.steps,
            "occupancy_steps": self.occupancy.steps,
            "plan_steps": self.planning.steps,
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `toolkit.storage.typed.decode` inverts it."""
        return asdict(self)
