"""The file form of a frame's results: FRAME.json, and FRAME.npz beside it. `result_reader` reads it back.

Numbers are gathered and rounded as arrays, and msgspec encodes them; the JSON is that of Python's `json` to the byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from io import BytesIO
from operator import getitem
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.errors import CheckFailed
from toolkit.runtime.results import FrameResult, MapResult, MotionModes, OccupancyResult, PlanResult, TrackedBox
from toolkit.storage.npz import write_npz
from toolkit.storage.outputs import new_file

SCORE_DIGITS = 9
"""All that float32 says about a box's score: evaluations rank by it, and count from one score on."""
_DIGITS = 6
"""Micrometres: float32 has no more to say."""
_SHORTEST, _LONGEST = 1e-4, 1e16
"""Between them Python writes numbers without an exponent, as msgspec does."""
_ESCAPED = re.compile(r"[^\x00-\x7e]")
"""What `json` escapes in strings, and msgspec does not."""


def write_result(result: FrameResult, folder: Path) -> Path:
    """Write FRAME.json, and FRAME.npz beside it where there are grids; return the JSON's path.

    The npz holds `detection_boxes`, `detection_scores`, `detection_labels`, `map_lanes`, `map_lane_scores`,
    `map_drivable`, `map_instance_masks`, `occupancy`, `occupancy_scores` and `occupancy_instances`, as far as the model
    gives them, and further results under their own names, which the JSON lists. The JSON comes last and never
    half-written. Raises CheckFailed, and writes nothing, for values that are not finite.
    """
    grids = _grids(result)
    text = _finite_json(result, grids)
    if grids:
        packed = BytesIO()  # in a file each array would be a dozen calls of the system
        write_npz(packed, grids.items(), compressed=True)
        with new_file(folder / f"{result.frame}.npz") as file:
            file.write_bytes(packed.getbuffer())
    path = folder / f"{result.frame}.json"
    with new_file(path) as file:
        file.write_bytes(text)
    return path


def require_finite(result: FrameResult) -> None:
    """Raise CheckFailed, as `write_result` does, for values that are not finite: they cannot be drawn either."""
    _finite_json(result, _grids(result))


class _NotFinite(Exception):
    """A value is NaN or infinite."""


def _finite_json(result: FrameResult, grids: Mapping[str, NDArray[Any]]) -> bytes:
    try:
        values = _values(result)
        if result.further:
            values["further"] = sorted(result.further)
        if grids:
            values["grids"] = f"{result.frame}.npz"
        for grid in grids.values():
            _require_finite(grid)
    except _NotFinite as error:
        message = f"frame {result.frame}: the network's results hold values that are not finite"
        raise CheckFailed(message) from error
    return _encoded(values)


def _values(result: FrameResult) -> dict[str, Any]:
    """The JSON form: everything but the grids."""
    return {
        "frame": result.frame,
        "scene": result.scene,
        "timestamp": _exact(result.timestamp),
        "command": result.command.name.lower(),
        "boxes": _box_values(result.boxes),
        "detections": result.detections and {"classes": result.detections.classes},
        "ego_motion": _motion_values([result.ego_motion])[0],
        "map": _map_values(result.map),
        "occupancy": _occupancy_values(result.occupancy),
        "plan": _plan_values(result.plan),
        "dropped_tracks": result.dropped_tracks,
        "dropped_agents": result.dropped_agents,
        "repairs": asdict(result.repairs),
    }


def _box_values(boxes: Sequence[TrackedBox]) -> list[dict[str, Any]]:
    scores = _rounded([box.score for box in boxes], SCORE_DIGITS)
    centers, sizes = _rounded([box.center for box in boxes]), _rounded([box.size for box in boxes])
    headings, velocities = _rounded([box.heading for box in boxes]), _rounded([box.velocity for box in boxes])
    motions = _motion_values([box.motion for box in boxes])
    return [
        {
            "track_id": box.track_id,
            "label": box.label,
            "score": score,
            "center": center,
            "size": size,
            "heading": heading,
            "velocity": velocity,
            "motion": motion,
        }
        for box, score, center, size, heading, velocity, motion in zip(
            boxes, scores, centers, sizes, headings, velocities, motions, strict=True
        )
    ]


def _motion_values(motions: Sequence[MotionModes | None]) -> list[dict[str, Any] | None]:
    """Those of one shape are rounded together: those of one model."""
    known = [motion for motion in motions if motion is not None]
    if len({motion.trajectories.shape for motion in known}) > 1:
        return [value for motion in motions for value in _motion_values([motion])]
    probabilities = _rounded([motion.probabilities for motion in known])
    trajectories = _rounded([motion.trajectories for motion in known])
    values = (
        {"step_seconds": _exact(motion.step_seconds), "probabilities": shares, "trajectories": paths}
        for motion, shares, paths in zip(known, probabilities, trajectories, strict=True)
    )
    return [None if motion is None else next(values) for motion in motions]


def _map_values(result: MapResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    scores = _rounded([item.score for item in result.instances])
    boxes = _rounded([item.box for item in result.instances])
    instances = [
        {"label": item.label, "score": score, "box": box}
        for item, score, box in zip(result.instances, scores, boxes, strict=True)
    ]
    return {
        "x_range": _numbers(result.x_range),
        "y_range": _numbers(result.y_range),
        "lane_classes": result.lane_classes,
        "instances": instances,
    }


def _occupancy_values(result: OccupancyResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {
        "x_range": _numbers(result.x_range),
        "y_range": _numbers(result.y_range),
        "step_seconds": _exact(result.step_seconds),
    }


def _plan_values(result: PlanResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {"step_seconds": _exact(result.step_seconds), "points": _rounded(result.points)}


def _rounded(values: ArrayLike, digits: int = _DIGITS) -> Any:
    """Numbers of an array, which is no scalar, as lists."""
    return _numbers(np.asarray(values, np.float64).round(digits))


def _exact(value: float) -> Any:
    return _numbers([value])[0]


def _numbers(values: ArrayLike) -> Any:
    """Lists of numbers that msgspec writes as Python does. Raises _NotFinite."""
    array = np.asarray(values, np.float64)
    _require_finite(array)
    lists, sizes = array.tolist(), np.abs(array)
    for *outer, last in np.argwhere((sizes >= _LONGEST) | ((sizes < _SHORTEST) & (sizes > 0))).tolist():
        place = reduce(getitem, outer, lists)
        place[last] = msgspec.Raw(repr(place[last]).encode())
    return lists


def _require_finite(array: NDArray[Any]) -> None:
    if not np.isfinite(array).all():
        raise _NotFinite


def _encoded(values: dict[str, Any]) -> bytes:
    """With blanks behind commas and colons, and in ASCII."""
    try:
        text = msgspec.json.format(msgspec.json.encode(values), indent=0)
    except UnicodeEncodeError:  # half of a surrogate pair in a foreign name: only Python writes it
        return json.dumps(values, default=_float).encode()
    if text.isascii() and b"\x7f" not in text:
        return text
    return _ESCAPED.sub(lambda match: json.dumps(match[0])[1:-1], text.decode()).encode()


def _float(number: msgspec.Raw) -> float:
    return float(bytes(number))


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
