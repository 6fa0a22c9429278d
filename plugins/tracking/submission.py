"""Results as nuScenes' benchmarks take them: boxes in the global frame, and the files that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from plugins.tracking.rules import TRACKED, within_reach
from toolkit.data.frames import Float64Array
from toolkit.data.ground_truth import AnnotatedFrame
from toolkit.runtime.results import Detections, MotionModes, TrackedBox
from toolkit.storage.outputs import new_file

META = {"use_camera": True, "use_lidar": False, "use_radar": False, "use_map": False, "use_external": True}
"""What UniAD looks at, as its own files say."""
MOVING_SPEED = 0.2
"""Of objects faster than this (m/s) the first of their attributes below is said, of others the second."""
ATTRIBUTES: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("car", "truck", "construction_vehicle", "trailer"), ("vehicle.moving", "vehicle.parked")),
    "bus": ("vehicle.moving", "vehicle.stopped"),
    **dict.fromkeys(("motorcycle", "bicycle"), ("cycle.with_rider", "cycle.without_rider")),
    "pedestrian": ("pedestrian.moving", "pedestrian.standing"),
    **dict.fromkeys(("barrier", "traffic_cone"), ("", "")),
}
LEAST_SIZE = LEAST_PROBABILITY = 1e-6
"""Results are written to the sixth digit, and nuScenes takes no size of 0, nor JSON the logarithm of 0."""
UNTRACKED = -1


@dataclass(frozen=True, eq=False)
class GlobalBoxes:
    """K boxes in the global frame. `rows` [K] tells which ones they are of those that they were made of."""

    rows: NDArray[np.int64]
    label: tuple[str, ...]
    attribute: tuple[str, ...]
    identity: tuple[str | int, ...]
    """The same in all frames of a track."""
    score: Float64Array
    """[K]; -1 for true boxes."""
    position: Float64Array
    """[K, 3]: gravity centre (m)."""
    size: Float64Array
    """[K, 3]: width, length, height (m)."""
    rotation: Float64Array
    """[K, 4]: quaternion (w, x, y, z)."""
    velocity: Float64Array
    """[K, 2]: along x and y (m/s); NaN where unknown."""

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, chosen: NDArray[np.bool_]) -> GlobalBoxes:
        """Those that are chosen [K]."""
        places = np.flatnonzero(chosen).tolist()

        def of(column: Any) -> Any:
            return column[places] if isinstance(column, np.ndarray) else tuple(column[i] for i in places)

        return GlobalBoxes(**{field.name: of(getattr(self, field.name)) for field in fields(self)})


@dataclass(frozen=True, eq=False)
class Tracks:
    """Tracked boxes as arrays: `identity` [N], and `motion` [N], which is None where there is no forecast."""

    boxes: Detections
    identity: NDArray[np.int64]
    motion: tuple[MotionModes | None, ...]


def tracks_of(boxes: Sequence[TrackedBox]) -> Tracks:
    """Tracked boxes in their order."""
    classes = tuple(dict.fromkeys(box.label for box in boxes))
    rows = [(*box.center, *box.size, box.heading, *box.velocity) for box in boxes]
    return Tracks(
        Detections(
            classes=classes,
            labels=np.array([classes.index(box.label) for box in boxes], np.int32),
            scores=np.array([box.score for box in boxes], np.float32),
            boxes=np.array(rows, np.float32).reshape(-1, 9),
        ),
        identity=np.array([box.track_id for box in boxes], np.int64),
        motion=tuple(box.motion for box in boxes),
    )


def global_boxes(boxes: Detections, frame: AnnotatedFrame, identity: NDArray[np.int64] | None = None) -> GlobalBoxes:
    """Boxes of a frame's result as nuScenes takes them: of its classes, and not farther than it judges them.

    `identity` [N] is that of tracked boxes.
    """
    values = boxes.boxes.astype(np.float64)
    in_ego = values[:, :3] @ frame.lidar2ego.rotation.T + frame.lidar2ego.translation
    rows = np.flatnonzero(within_reach([boxes.classes[i] for i in boxes.labels], in_ego))
    to_global = frame.ego2global.rotation @ frame.lidar2ego.rotation
    velocity = values[rows, 7:] @ to_global[:2, :2].T
    label = tuple(boxes.classes[i] for i in boxes.labels[rows])
    slow = np.hypot(*velocity.T) <= MOVING_SPEED
    return GlobalBoxes(
        rows=rows,
        label=label,
        attribute=tuple(ATTRIBUTES[name][i] for name, i in zip(label, slow.astype(int), strict=True)),
        identity=(UNTRACKED,) * len(rows) if identity is None else tuple(identity[rows].tolist()),
        score=boxes.scores[rows].astype(np.float64),
        position=in_ego[rows] @ frame.ego2global.rotation.T + frame.ego2global.translation,
        size=np.maximum(values[rows, 3:6], LEAST_SIZE),
        rotation=_turned_by(
            frame.ego2global.quaternion, _turned_by(frame.lidar2ego.quaternion, upright(values[rows, 6]))
        ),
        velocity=velocity,
    )


def upright(heading: Float64Array) -> Float64Array:
    """Quaternions [K, 4] of boxes that stand upright and head by these angles [K]."""
    zero = np.zeros_like(heading)
    return np.stack((np.cos(heading / 2), zero, zero, np.sin(heading / 2)), -1)


def track_boxes(tracks: Tracks, frame: AnnotatedFrame) -> GlobalBoxes:
    """Tracked boxes of a frame's result as `global_boxes` gives them."""
    return global_boxes(tracks.boxes, frame, tracks.identity)


def detection_entries(detections: Detections, frame: AnnotatedFrame) -> list[dict[str, Any]]:
    """A frame's entries of the detection benchmark."""
    return _entries(frame.token, global_boxes(detections, frame))


def track_entries(tracks: Tracks, frame: AnnotatedFrame) -> list[dict[str, Any]]:
    """A frame's entries of the tracking benchmark, which has seven classes, with the forecasts that UniAD adds.

    Their paths lie in the LiDAR frame, not in the global one; their scores are logarithms of probabilities.
    """
    boxes = track_boxes(tracks, frame)
    boxes = boxes.where(np.isin(boxes.label, TRACKED))
    entries = _entries(frame.token, boxes)
    for entry, row, identity in zip(entries, boxes.rows, boxes.identity, strict=True):
        entry["tracking_name"] = entry["detection_name"]
        entry["tracking_score"] = entry["detection_score"]
        entry["tracking_id"] = identity
        if motion := tracks.motion[row]:
            probabilities = np.maximum(motion.probabilities.astype(np.float64), LEAST_PROBABILITY)
            entry["predict_traj"] = motion.trajectories.tolist()
            entry["predict_traj_score"] = np.log(probabilities).tolist()
    return entries


def write_submission(path: Path, frames: Iterable[tuple[str, Sequence[Mapping[str, Any]]]]) -> None:
    """Write the entries of frames, by their tokens, as a file for nuScenes' evaluations, one frame after the other.

    Raises InputError if that is not possible.
    """
    encode = msgspec.json.encode
    with new_file(path) as work, work.open("wb") as file:
        file.write(b'{"meta": %b, "results": {' % encode(META))
        for number, (token, entries) in enumerate(frames):
            file.write(b"%b%b: %b" % (b",\n" if number else b"\n", encode(token), encode(entries)))
        file.write(b"\n}}\n")


def _entries(token: str, boxes: GlobalBoxes) -> list[dict[str, Any]]:
    columns = (boxes.position, boxes.size, boxes.rotation, boxes.velocity, boxes.score)
    rows = zip(boxes.label, boxes.attribute, *(column.tolist() for column in columns), strict=True)
    return [
        {
            "sample_token": token,
            "translation": position,
            "size": size,
            "rotation": rotation,
            "velocity": velocity,
            "detection_name": label,
            "detection_score": score,
            "attribute_name": attribute,
        }
        for label, attribute, position, size, rotation, velocity, score in rows
    ]


def _turned_by(one: Float64Array, others: Float64Array) -> Float64Array:
    """Products [K, 4] of a quaternion [4] and others [K, 4]."""
    w, x, y, z = one
    product: Float64Array = others @ np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]]).T
    return product
