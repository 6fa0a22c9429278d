"""Reading back what `write_result` wrote: a folder of one JSON a frame, with the grids beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.fields import array_field, command_field, object_field, text_field
from toolkit.errors import InputError
from toolkit.json_file import read_json
from toolkit.regular_file import open_regular
from toolkit.runtime.results import (
    FrameResult,
    MapInstance,
    MapResult,
    MotionModes,
    OccupancyResult,
    PlanResult,
    Range,
    TrackedBox,
)
from toolkit.runtime.state_guard import Repairs
from toolkit.text import one_line, quoted

_FIELDS = ("frame", "scene", "timestamp", "command", "boxes", "ego_motion", "map", "occupancy", "plan",
           "dropped_tracks", "dropped_agents", "repairs")  # fmt: skip
_BOX_FIELDS = ("track_id", "label", "score", "center", "size", "heading", "velocity", "motion")
_LARGEST_GRID = 2**26
"""Bytes; one of UniAD-tiny has a few thousand."""
Grids = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ResultFolder:
    """Results in the order of their file names, which is that of the frames; each is read when asked for."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[FrameResult]:
        """Raises InputError for a file that is no result, or of another model than the first."""
        first: FrameResult | None = None
        for path in self.paths:
            result = read_result(path)
            first = first or result
            if _layout(result) != _layout(first):
                raise InputError(
                    f"{path}: is of another model than {self.paths[0].name}: its map or occupancy has other classes or "
                    "cells, or is missing; give the results of one run"
                )
            yield result


def open_results(folder: Path) -> ResultFolder:
    """The results in a folder. Raises InputError if there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give the one that `uniad-toolkit run` wrote, or a bundle")
    paths = sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))
    if not paths:
        raise InputError(f"{folder}: holds no result (*.json); give the folder that `uniad-toolkit run` wrote")
    return ResultFolder(tuple(paths))


def read_result(path: Path) -> FrameResult:
    """One frame's results. Raises InputError naming file and field for anything that `write_result` does not write."""
    root = f"{path}: "
    content = read_json(path, "run the bundle again")
    if not isinstance(content, dict) or not content.keys() >= set(_FIELDS):
        raise InputError(
            f"{path}: is no result of this version; give a folder that `uniad-toolkit run` wrote, or run the bundle "
            "again"
        )
    values = object_field(content, root, _FIELDS, ("grids", "further"))
    grids = _read_grids(path.parent, values["grids"], root) if "grids" in values else {}
    boxes = _list(values["boxes"], f"{root}boxes")
    name = text_field(values["frame"], f"{root}frame")
    if name != path.stem:
        raise InputError(f"{root}frame: is {quoted(name)}, unlike the file's name; run the bundle again")
    return FrameResult(
        frame=name,
        scene=text_field(values["scene"], f"{root}scene"),
        timestamp=_number(values["timestamp"], f"{root}timestamp"),
        command=command_field(values["command"], f"{root}command"),
        boxes=tuple(_box(box, f"{root}boxes[{i}]") for i, box in enumerate(boxes)),
        ego_motion=_motion(values["ego_motion"], f"{root}ego_motion"),
        map=_map(values["map"], grids, f"{root}map"),
        occupancy=_occupancy(values["occupancy"], grids, f"{root}occupancy"),
        plan=_plan(values["plan"], f"{root}plan"),
        dropped_tracks=_whole(values["dropped_tracks"], f"{root}dropped_tracks"),
        dropped_agents=_whole(values["dropped_agents"], f"{root}dropped_agents"),
        repairs=_repairs(values["repairs"], f"{root}repairs"),
        further={name: _further(grids, name, f"{root}further") for name in _list(values.get("further", []), "further")},
    )


def _further(grids: Grids, name: Any, where: str) -> NDArray[Any]:
    if not isinstance(name, str) or name not in grids:
        raise InputError(f"{where}: the npz holds no {quoted(name)}; JSON and npz must be of one run")
    return grids[name]


def _layout(result: FrameResult) -> tuple[object, ...]:
    """What the results of one model have in common."""
    road, space = result.map, result.occupancy
    return (
        road and (road.lane_classes, road.x_range, road.y_range, road.lanes.shape),
        space and (space.x_range, space.y_range, space.step_seconds, space.cells.shape),
    )


def _box(value: Any, where: str) -> TrackedBox:
    box = object_field(value, where, _BOX_FIELDS)
    x, y, z = array_field(box["center"], f"{where}.center", (3,)).tolist()
    width, length, height = array_field(box["size"], f"{where}.size", (3,)).tolist()
    vx, vy = array_field(box["velocity"], f"{where}.velocity", (2,)).tolist()
    return TrackedBox(
        track_id=_whole(box["track_id"], f"{where}.track_id"),
        label=text_field(box["label"], f"{where}.label"),
        score=_number(box["score"], f"{where}.score"),
        center=(x, y, z),
        size=(width, length, height),
        heading=_number(box["heading"], f"{where}.heading"),
        velocity=(vx, vy),
        motion=_motion(box["motion"], f"{where}.motion"),
    )


def _motion(value: Any, where: str) -> MotionModes | None:
    if value is None:
        return None
    motion = object_field(value, where, ("step_seconds", "probabilities", "trajectories"))
    modes = len(_list(motion["probabilities"], f"{where}.probabilities"))
    trajectories = _list(motion["trajectories"], f"{where}.trajectories")
    steps = len(_list(trajectories[0], f"{where}.trajectories[0]")) if trajectories else 0
    return MotionModes(
        trajectories=array_field(trajectories, f"{where}.trajectories", (modes, steps, 2)).astype(np.float32),
        probabilities=array_field(motion["probabilities"], f"{where}.probabilities", (modes,)).astype(np.float32),
        step_seconds=_number(motion["step_seconds"], f"{where}.step_seconds"),
    )


def _map(value: Any, grids: Grids, where: str) -> MapResult | None:
    if value is None:
        return None
    road = object_field(value, where, ("x_range", "y_range", "lane_classes", "instances"))
    names = _list(road["lane_classes"], f"{where}.lane_classes")
    entries = _list(road["instances"], f"{where}.instances")
    drivable = _grid(grids, "map_drivable", (None, None), where)
    masks = _grid(grids, "map_instance_masks", (len(entries), *drivable.shape), where).astype(np.bool_)
    shape = (len(names), *drivable.shape)
    return MapResult(
        lane_classes=tuple(text_field(name, f"{where}.lane_classes[{i}]") for i, name in enumerate(names)),
        lanes=_grid(grids, "map_lanes", shape, where).astype(np.bool_),
        lane_scores=_grid(grids, "map_lane_scores", shape, where).astype(np.float32),
        drivable=drivable.astype(np.bool_),
        instances=tuple(_instance(entries[i], masks[i], f"{where}.instances[{i}]") for i in range(len(entries))),
        x_range=_range(road["x_range"], f"{where}.x_range"),
        y_range=_range(road["y_range"], f"{where}.y_range"),
    )


def _instance(value: Any, mask: NDArray[np.bool_], where: str) -> MapInstance:
    entry = object_field(value, where, ("label", "score", "box"))
    x0, y0, x1, y1 = array_field(entry["box"], f"{where}.box", (4,)).tolist()
    label, score = text_field(entry["label"], f"{where}.label"), _number(entry["score"], f"{where}.score")
    return MapInstance(label, score, (x0, y0, x1, y1), mask)


def _occupancy(value: Any, grids: Grids, where: str) -> OccupancyResult | None:
    if value is None:
        return None
    space = object_field(value, where, ("x_range", "y_range", "step_seconds"))
    cells = _grid(grids, "occupancy", (None, None, None), where)
    return OccupancyResult(
        cells=cells.astype(np.bool_),
        scores=_grid(grids, "occupancy_scores", cells.shape, where).astype(np.float32),
        step_seconds=_number(space["step_seconds"], f"{where}.step_seconds"),
        x_range=_range(space["x_range"], f"{where}.x_range"),
        y_range=_range(space["y_range"], f"{where}.y_range"),
    )


def _plan(value: Any, where: str) -> PlanResult | None:
    if value is None:
        return None
    plan = object_field(value, where, ("step_seconds", "points"))
    steps = len(_list(plan["points"], f"{where}.points"))
    points = array_field(plan["points"], f"{where}.points", (steps, 2)).astype(np.float32)
    return PlanResult(points, _number(plan["step_seconds"], f"{where}.step_seconds"))


def _repairs(value: Any, where: str) -> Repairs:
    repairs = object_field(value, where, ("poisoned_tracks", "poisoned_states", "ids_restarted"))
    states = _list(repairs["poisoned_states"], f"{where}.poisoned_states")
    return Repairs(
        poisoned_tracks=_whole(repairs["poisoned_tracks"], f"{where}.poisoned_tracks"),
        poisoned_states=tuple(text_field(state, f"{where}.poisoned_states[{i}]") for i, state in enumerate(states)),
        ids_restarted=repairs["ids_restarted"] is True,
    )


def _read_grids(folder: Path, name: Any, root: str) -> Grids:
    path = folder / Path(text_field(name, f"{root}grids")).name
    try:
        with open_regular(path) as file, np.load(file, allow_pickle=False) as archive:
            if any(member.file_size > _LARGEST_GRID for member in archive.zip.infolist()):
                raise ValueError(f"a grid is larger than {_LARGEST_GRID} bytes")
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError as error:
        raise InputError(f"{root}grids: {path} does not exist; copy the folder whole") from error
    # Foreign bytes can make the parsers fail in any way.
    except Exception as error:
        raise InputError(f"{path}: is not a readable npz: {one_line(error)}; run the bundle again") from error


def _grid(grids: Grids, name: str, shape: tuple[int | None, ...], where: str) -> NDArray[Any]:
    """A grid of numbers of this shape, None for any length but none."""
    grid = grids.get(name)
    fits = grid is not None and grid.ndim == len(shape) and grid.dtype.kind in "bfiu" and all(
        found > 0 if wanted is None else found == wanted for found, wanted in zip(grid.shape, shape, strict=True)
    )  # fmt: skip
    if grid is None or not fits:
        found = "none" if grid is None else f"{grid.dtype} of {' x '.join(map(str, grid.shape))}"
        raise InputError(f"{where}: its grid {name} does not fit: found {found}; JSON and npz must be of one run")
    return grid


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where}: expected a list, found {quoted(value)}")
    return value


def _number(value: Any, where: str) -> float:
    return float(array_field(value, where, ()))


def _whole(value: Any, where: str) -> int:
    if type(value) is not int:
        raise InputError(f"{where}: expected a whole number, found {quoted(value)}")
    return value


def _range(value: Any, where: str) -> Range:
    low, high = array_field(value, where, (2,)).tolist()
    if low >= high:
        raise InputError(f"{where}: expected two numbers in ascending order, found {quoted(value)}")
    return low, high
