"""What the network says about one frame, in metres and names instead of tensors; and its file form.

Which tensors say it is up to the submodules that produce them (`Submodule.interpretation`).

Everything is in the LiDAR frame of its frame: x right, y forward, z up, metres. Grids have rows along y, from rear to
front, and columns along x, from left to right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ModelConfig
from toolkit.data.frames import Command, Frame
from toolkit.errors import CheckFailed
from toolkit.runtime.repairs import NO_REPAIRS, Repairs
from toolkit.specs import Interpretation, Tensors
from toolkit.storage.npz import write_npz
from toolkit.storage.outputs import new_file
from toolkit.storage.typed import Text

Floats = NDArray[np.float32]
Places = NDArray[np.int32]
Mask = NDArray[np.bool_]
Range = tuple[float, float]
SCORE_DIGITS = 9
"""All that float32 says about a box's score: evaluations rank by it, and count from one score on."""


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
    motion: MotionModes | None
    """None without a motion submodule, or beyond its capacity of agents."""


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


def frame_result(
    tensors: Tensors,
    frame: Frame,
    config: ModelConfig,
    interpretations: Iterable[Interpretation],
    repairs: Repairs = NO_REPAIRS,
) -> FrameResult:
    """Interpret the network's results, host postprocessing included: each part by whoever knows its tensors."""
    result = FrameResult(
        frame=frame.name, scene=frame.scene, timestamp=frame.timestamp, command=frame.command, repairs=repairs
    )
    told: set[str] = set()
    for interpretation in interpretations:
        if tensors.keys() >= set(interpretation.needs):
            result = interpretation.add(result, tensors, config)
            told.update(interpretation.needs, interpretation.also)
    return replace(result, further={name: array for name, array in tensors.items() if name not in told})


def write_result(result: FrameResult, folder: Path) -> Path:
    """Write FRAME.json, and FRAME.npz beside it where there are grids; return the JSON's path.

    The npz holds `detection_boxes`, `detection_scores`, `detection_labels`, `map_lanes`, `map_lane_scores`,
    `map_drivable`, `map_instance_masks`, `occupancy`, `occupancy_scores` and `occupancy_instances`, as far as the model
    gives them, and further results under their own names, which the JSON lists. The JSON comes last and never
    half-written. Raises CheckFailed, and writes nothing, for values that are not finite.
    """
    values, grids = _values(result), _grids(result)
    if result.further:
        values["further"] = sorted(result.further)
    if grids:
        values["grids"] = f"{result.frame}.npz"
    text = _finite_json(result.frame, values, grids)
    if grids:
        with new_file(folder / f"{result.frame}.npz") as file:
            write_npz(file, grids.items(), compressed=True)
    path = folder / f"{result.frame}.json"
    with new_file(path) as file:
        file.write_text(text, encoding="utf-8")
    return path


def require_finite(result: FrameResult) -> None:
    """Raise CheckFailed, as `write_result` does, for values that are not finite: they cannot be drawn either."""
    _finite_json(result.frame, _values(result), _grids(result))


def _values(result: FrameResult) -> dict[str, Any]:
    """The JSON form: everything but the grids."""
    return {
        "frame": result.frame,
        "scene": result.scene,
        "timestamp": result.timestamp,
        "command": result.command.name.lower(),
        "boxes": [_box_values(box) for box in result.boxes],
        "detections": result.detections and {"classes": result.detections.classes},
        "ego_motion": _motion_values(result.ego_motion),
        "map": _map_values(result.map),
        "occupancy": _occupancy_values(result.occupancy),
        "plan": _plan_values(result.plan),
        "dropped_tracks": result.dropped_tracks,
        "dropped_agents": result.dropped_agents,
        "repairs": asdict(result.repairs),
    }


def _box_values(box: TrackedBox) -> dict[str, Any]:
    return {
        "track_id": box.track_id,
        "label": box.label,
        "score": _rounded(box.score, SCORE_DIGITS),
        "center": _rounded(box.center),
        "size": _rounded(box.size),
        "heading": _rounded(box.heading),
        "velocity": _rounded(box.velocity),
        "motion": _motion_values(box.motion),
    }


def _motion_values(motion: MotionModes | None) -> dict[str, Any] | None:
    if motion is None:
        return None
    return {
        "step_seconds": motion.step_seconds,
        "probabilities": _rounded(motion.probabilities),
        "trajectories": _rounded(motion.trajectories),
    }


def _map_values(result: MapResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    instances = [
        {"label": item.label, "score": _rounded(item.score), "box": _rounded(item.box)} for item in result.instances
    ]
    return {
        "x_range": result.x_range,
        "y_range": result.y_range,
        "lane_classes": result.lane_classes,
        "instances": instances,
    }


def _occupancy_values(result: OccupancyResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {"x_range": result.x_range, "y_range": result.y_range, "step_seconds": result.step_seconds}


def _plan_values(result: PlanResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {"step_seconds": result.step_seconds, "points": _rounded(result.points)}


def _finite_json(frame: str, values: dict[str, Any], grids: Mapping[str, NDArray[Any]]) -> str:
    if all(np.isfinite(grid).all() for grid in grids.values()):
        with suppress(ValueError):
            return json.dumps(values, allow_nan=False)
    raise CheckFailed(f"frame {frame}: the network's results hold values that are not finite")


def _rounded(values: Any, digits: int = 6) -> Any:
    """Plain numbers, by default to the micrometre: float32 has no more to say."""
    return np.asarray(values, np.float64).round(digits).tolist()


def _grids(result: FrameResult) -> dict[str, NDArray[Any]]:
    grids: dict[str, NDArray[Any]] = {}
    if result.detections:
        grids |= {
            "detection_boxes": result.detections.boxes,
            "detection_scores": result.detections.scores,
            "detection_labels": result.detections.labels,
        }
    if result.map:
        masks = [instance.mask for instance in result.map.instances]
        grids |= {
            "map_lanes": result.map.lanes,
            "map_lane_scores": result.map.lane_scores,
            "map_drivable": result.map.drivable,
            "map_instance_masks": np.array(masks, np.bool_).reshape(-1, *result.map.drivable.shape),
        }
    if result.occupancy:
        grids |= {"occupancy": result.occupancy.cells, "occupancy_scores": result.occupancy.scores}
        if result.occupancy.instances is not None:
            grids["occupancy_instances"] = result.occupancy.instances
    return {**result.further, **grids}
