"""What the network says about one frame, in metres and names instead of tensors.

Which tensors say it is up to the submodules that produce them (`Submodule.interpretation`).

Everything is in the LiDAR frame of its frame: x right, y forward, z up, metres. Grids have rows along y, from rear to
front, and columns along x, from left to right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ModelConfig
from toolkit.data.frames import Command, Frame
from toolkit.runtime.repairs import NO_REPAIRS, Repairs
from toolkit.specs import Interpretation, Tensors
from toolkit.storage.typed import Text

Floats = NDArray[np.float32]
Places = NDArray[np.int32]
Mask = NDArray[np.bool_]
Range = tuple[float, float]


@dataclass(frozen=True, eq=False)
class MotionModes:
    """Forecast modes: `trajectories` [modes, steps, 2] m, first point one step ahead; `probabilities` [modes]."""

    trajectories: Floats
    probabilities: Floats
    step_seconds: float


@dataclass(frozen=True, eq=False)
class TrackedBox:
    """A tracked object. `heading` is counter-clockwise from the x axis, radians in (-π, π]."""

    track_id: int
    label: Text
    score: float
    center: tuple[float, float, float]
    """Gravity centre (m)."""
    size: tuple[float, float, float]
    """Width, length, height (m): the order of nuScenes."""
    heading: float
    velocity: tuple[float, float]
    """Along x and y (m/s)."""
    motion: MotionModes | None = None
    """None without a motion submodule, or beyond its capacity of agents."""

    def moving(self, motion: MotionModes) -> TrackedBox:
        """The same with a forecast: a frame has dozens, for which `dataclasses.replace` takes thrice as long."""
        return TrackedBox(
            self.track_id, self.label, self.score, self.center, self.size, self.heading, self.velocity, motion
        )


@dataclass(frozen=True, eq=False)
class Detections:
    """What is seen in this frame alone, tracked or not: another list than that of tracked boxes, for detection metrics.

    `boxes` [N, 9]: x, y, z of the gravity centre, width, length, height (m), heading (counter-clockwise from the x
    axis, radians in (-π, π]), velocity along x and y (m/s).
    """

    classes: tuple[Text, ...]
    labels: Places
    """[N], places in `classes`."""
    scores: Floats
    """[N], in descending order."""
    boxes: Floats


@dataclass(frozen=True, eq=False)
class MapInstance:
    """One element of the map before cells are shared out: whole `mask` [H, W], `box` (x0, y0, x1, y1) in metres."""

    label: Text
    score: float
    box: tuple[float, float, float, float]
    mask: Mask


@dataclass(frozen=True, eq=False)
class MapResult:
    """Map around the ego on the BEV grid, which covers `x_range` and `y_range` (m)."""

    lane_classes: tuple[Text, ...]
    lanes: Mask
    """[classes, H, W]; a cell belongs to one class at most."""
    lane_scores: Floats
    """[classes, H, W]; 0 where free."""
    drivable: Mask
    """[H, W]"""
    instances: tuple[MapInstance, ...]
    x_range: Range
    y_range: Range


@dataclass(frozen=True, eq=False)
class OccupancyResult:
    """Cells that vehicles occupy, now and in steps of `step_seconds`, over `x_range` and `y_range` (m).

    The grid is finer and smaller than the map's.
    """

    cells: Mask
    """[steps, H, W]"""
    scores: Floats
    """[steps, H, W]; -0.9 where there is no vehicle at all."""
    step_seconds: float
    x_range: Range
    y_range: Range
    instances: Places | None = None
    """[steps, H, W]: 1 + the place of the vehicle among the frame's boxes, 0 where free; None if the model tells none.
    """


@dataclass(frozen=True, eq=False)
class PlanResult:
    """Planned ego positions: `points` [steps, 2] m, the first one step ahead."""

    points: Floats
    step_seconds: float


@dataclass(frozen=True, eq=False)
class FrameResult:
    """All results of one frame. A part is None where the model has no submodule that gives it."""

    frame: str
    scene: Text
    timestamp: float
    """Seconds since the scene's first frame."""
    command: Command
    boxes: tuple[TrackedBox, ...] = ()
    """In descending order of score."""
    detections: Detections | None = None
    ego_motion: MotionModes | None = None
    map: MapResult | None = None
    occupancy: OccupancyResult | None = None
    plan: PlanResult | None = None
    dropped_tracks: int = 0
    """Tracks forgotten because there were more than the model's capacity."""
    dropped_agents: int = 0
    """Boxes without motion and occupancy because there were more than the model's capacity of agents."""
    repairs: Repairs = NO_REPAIRS
    """What had to be changed in the state after this frame."""
    further: Tensors = field(default_factory=dict)
    """Results, by name, of which no submodule says what they are."""


def unknown_result(frame: Frame, repairs: Repairs = NO_REPAIRS) -> FrameResult:
    """The result of a frame of which nothing is known yet."""
    return FrameResult(
        frame=frame.name, scene=frame.scene, timestamp=frame.timestamp, command=frame.command, repairs=repairs
    )


def frame_result(
    tensors: Tensors, unknown: FrameResult, config: ModelConfig, interpretations: Iterable[Interpretation]
) -> FrameResult:
    """Interpret the network's results, host postprocessing included: each part by whoever knows its tensors."""
    result = unknown
    told: set[str] = set()
    for interpretation in interpretations:
        if tensors.keys() >= set(interpretation.needs):
            result = interpretation.add(result, tensors, config)
            told.update(interpretation.needs, interpretation.also)
    return replace(result, further={name: array for name, array in tensors.items() if name not in told})
