"""Results of a model that knows everything: what a data set knows, told as a model of UniAD-tiny's form would.

Metrics judge them as perfect. With noise added to them, they stand for a model's results where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from plugins.map_segmentation.ground_truth import TrueMap, road_map, true_map
from plugins.map_segmentation.metrics import KINDS
from plugins.motion.ground_truth import FUTURE_STEPS, AgentPaths, agent_paths
from plugins.occupancy.evaluation import consecutive
from plugins.occupancy.ground_truth import InstanceGrids, instance_grids
from plugins.planning.ground_truth import DrivenPath, driven_path
from toolkit.config.model import ModelConfig
from toolkit.data.frames import Float64Array
from toolkit.data.ground_truth import AnnotatedScene, Gap, GroundTruth, Objects
from toolkit.runtime.results import (
    Detections,
    FrameResult,
    MapResult,
    MotionModes,
    OccupancyResult,
    PlanResult,
    TrackedBox,
)

CONFIG = ModelConfig()
STEP_SECONDS = CONFIG.planning.step_seconds
SCORE = 0.9


def ideal_results(truth: GroundTruth) -> Iterator[FrameResult]:
    """A result for each frame of the ground truth, in its order. What it does not know the result does not hold."""
    roads = {location: road_map(truth, location) for location in {scene.location for scene in truth.scenes}}
    for scene in truth.scenes:
        for index in range(len(scene.frames)):
            yield ideal_result(scene, index, true_map(scene, index, roads[scene.location], size=CONFIG.bev.width))


def ideal_result(scene: AnnotatedScene, index: int, road: TrueMap | Gap) -> FrameResult:
    """The result of one frame with its true map: objects that a sensor has hit, all of them certain."""
    frame, path = scene.frames[index], driven_path(scene, index)
    paths, grids = agent_paths(scene, index), instance_grids(scene, index)
    boxes = () if frame.objects is None or not isinstance(paths, AgentPaths) else _boxes(frame.objects, paths)
    return FrameResult(
        frame=f"{index:05d}_{frame.token}",
        scene=scene.name,
        timestamp=(frame.microseconds - scene.frames[0].microseconds) / 1e6,
        command=path.command,
        boxes=boxes,
        ego_motion=_modes(np.pad(_driven(path), ((0, FUTURE_STEPS - len(path.points)), (0, 0)), "edge")),
        map=_map(road) if isinstance(road, TrueMap) else None,
        occupancy=_occupancy(grids) if isinstance(grids, InstanceGrids) else None,
        plan=PlanResult(_driven(path).astype(np.float32), STEP_SECONDS),
        detections=_detections(boxes),
    )


def _boxes(objects: Objects, paths: AgentPaths) -> tuple[TrackedBox, ...]:
    seen = np.flatnonzero(objects.hit & np.isin(objects.label, CONFIG.class_names))
    boxes = []
    for row in seen:
        (x, y, z), (width, length, height) = objects.center[row].tolist(), objects.size[row].tolist()
        vx, vy = np.nan_to_num(objects.velocity[row]).tolist()
        future = _held(paths.future[row], paths.future_mask[row, :, 0] > 0, objects.center[row, :2])
        boxes.append(
            TrackedBox(
                track_id=int(objects.number[row]),
                label=objects.label[row],
                score=SCORE,
                center=(x, y, z),
                size=(width, length, height),
                heading=float(objects.heading[row]),
                velocity=(vx, vy),
                motion=_modes(future),
            )
        )
    return tuple(boxes)


def _detections(boxes: tuple[TrackedBox, ...]) -> Detections:
    rows = [(*box.center, *box.size, box.heading, *box.velocity) for box in boxes]
    return Detections(
        classes=CONFIG.class_names,
        labels=np.array([CONFIG.class_names.index(box.label) for box in boxes], np.int32),
        scores=np.array([box.score for box in boxes], np.float32),
        boxes=np.array(rows, np.float32).reshape(-1, 9),
    )


def _driven(path: DrivenPath) -> Float64Array:
    return _held(path.points, path.mask[:, 0] > 0, np.zeros(2))


def _held(points: Float64Array, known: NDArray[np.bool_], start: Float64Array) -> Float64Array:
    """Points [T, 2] that follow a start; the last one that is known stays."""
    held, last = points.copy(), start
    for step in range(len(points)):
        last = held[step] = points[step] if known[step] else last
    return held


def _modes(path: Float64Array) -> MotionModes:
    """One path [T, 2], which all modes take."""
    modes = CONFIG.motion.modes
    shares = np.full(modes, 1 / modes, np.float32)
    return MotionModes(np.tile(path.astype(np.float32), (modes, 1, 1)), shares, STEP_SECONDS)


def _occupancy(grids: InstanceGrids) -> OccupancyResult:
    """Vehicles are numbered as they come; nothing where the scene has ended."""
    instances = consecutive(grids.instances[: CONFIG.occupancy.steps])
    half = instances.shape[-1] * CONFIG.occupancy.cell_metres / 2
    extent = (-half, half)
    cells = instances > 0
    return OccupancyResult(cells, cells.astype(np.float32), STEP_SECONDS, extent, extent, instances)


def _map(road: TrueMap) -> MapResult:
    lanes = np.stack([road.masks[road.labels == kind].any(0) for kind in range(len(KINDS))])
    return MapResult(
        lane_classes=CONFIG.map.thing_classes,
        lanes=lanes,
        lane_scores=lanes.astype(np.float32),
        drivable=road.masks[-1] > 0,
        instances=(),
        x_range=CONFIG.bev.x_range,
        y_range=CONFIG.bev.y_range,
    )
