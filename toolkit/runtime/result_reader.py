"""Reading back what `write_result` wrote: a folder of one JSON a frame, with the grids beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.config.check import MAX_SIDE
from toolkit.data.fields import command_field
from toolkit.errors import InputError
from toolkit.runtime.results import Detections, FrameResult
from toolkit.storage.files import is_file_name
from toolkit.storage.json_file import read_json, refusing
from toolkit.storage.regular_file import open_regular
from toolkit.storage.typed import Misfit, completed, decode
from toolkit.text import one_line, quoted, shown

_LATER_FIELDS = {"further", "detections"}
"""Earlier versions wrote none."""
_FIELDS = {field.name for field in fields(FrameResult)} - _LATER_FIELDS
_REMEDY = "run the bundle again"
_LARGEST = 1e9
"""No position in metres and no time comes near."""
_LARGEST_GRIDS = 2**28
"""Bytes, of all of a frame; one of UniAD-tiny has a few thousand."""
Grids = dict[str, NDArray[Any]]
Shape = tuple[int | None, ...]
"""None is any length but none."""


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
    paths = result_files(folder)
    if not paths:
        raise InputError(f"{folder}: holds no result (*.json); give the folder that `uniad-toolkit run` wrote")
    return ResultFolder(tuple(paths))


def result_files(folder: Path) -> list[Path]:
    """The results in a folder by name, without the hidden files that some systems leave beside copied ones."""
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def read_result(path: Path) -> FrameResult:
    """One frame's results. Raises InputError naming file and field for anything that `write_result` does not write."""
    content = read_json(path, _REMEDY)
    if not isinstance(content, dict) or not content.keys() >= _FIELDS:
        raise InputError(
            f"{path}: is no result of this version; give a folder that `uniad-toolkit run` wrote, or run the bundle "
            "again"
        )
    with refusing(path, _REMEDY):
        grids = _read_grids(path.parent, content.pop("grids")) if "grids" in content else {}
        content["command"] = command_field(content["command"], f"{path}: command")
        content["detections"] = _with_detection_arrays(content.get("detections"), grids)
        content["map"] = _with_map_grids(content["map"], grids)
        content["occupancy"] = _with_occupancy_grids(content["occupancy"], grids)
        content["further"] = _further(content.get("further", []), grids)
        result = decode(FrameResult, content, largest=_LARGEST)
        _require_sense(result)
    if result.frame != path.stem:
        raise InputError(f"{path}: frame: is {quoted(result.frame)}, unlike the file's name; run the bundle again")
    return result


def _layout(result: FrameResult) -> tuple[object, ...]:
    """What the results of one model have in common."""
    road, space = result.map, result.occupancy
    return (
        road and (road.lane_classes, road.x_range, road.y_range, road.lanes.shape),
        space and (space.x_range, space.y_range, space.step_seconds, space.cells.shape),
    )


def _read_grids(folder: Path, name: Any) -> Grids:
    if not isinstance(name, str) or not is_file_name(name):
        raise Misfit("$.grids", f"expected the name of a file, found {quoted(name)}")
    place = folder / shown(name)
    try:
        with open_regular(folder / name) as file, np.load(file, allow_pickle=False) as archive:
            if sum(member.file_size for member in archive.zip.infolist()) > _LARGEST_GRIDS:
                raise ValueError(f"its grids are larger than {_LARGEST_GRIDS} bytes")
            grids = {key: archive[key] for key in archive.files}
            strangers = [key for key, grid in grids.items() if not isinstance(grid, np.ndarray)]
            if strangers:
                raise ValueError(f"{quoted(strangers[0])} is no array")
            return grids
    except FileNotFoundError as error:
        raise InputError(f"{place} does not exist; copy the folder whole") from error
    # Foreign bytes can make the parsers fail in any way.
    except Exception as error:
        raise InputError(f"{place}: is not a readable npz: {one_line(error)}; run the bundle again") from error


def _further(names: Any, grids: Grids) -> Any:
    """The grids that a JSON file lists as those of nobody, by name, as far as it lists any."""
    if not isinstance(names, list):
        return names
    for i, name in enumerate(names):
        if not isinstance(name, str) or name not in grids:
            raise Misfit(f"$.further[{i}]", f"the npz holds no {quoted(name)}; JSON and npz must be of one run")
    return {name: grids[name] for name in names}


def _with_detection_arrays(part: Any, grids: Grids) -> Any:
    """The detections of a JSON file, which may be none at all, with their arrays in place, as far as it is one."""
    if not isinstance(part, dict):
        return part
    count = len(np.atleast_1d(grids.get("detection_scores", ())))
    return completed(
        part,
        "$.detections",
        labels=_grid(grids, "detection_labels", (count,), "$.detections", whole=True),
        scores=_grid(grids, "detection_scores", (count,), "$.detections"),
        boxes=_grid(grids, "detection_boxes", (count, 9), "$.detections"),
    )


def _with_map_grids(part: Any, grids: Grids) -> Any:
    """The map of a JSON file with its grids in place, as far as it is one."""
    if not isinstance(part, dict):
        return part
    drivable = _grid(grids, "map_drivable", (None, None), "$.map")
    classes, instances = (part.get(name) for name in ("lane_classes", "instances"))
    if isinstance(instances, list):
        masks = _grid(grids, "map_instance_masks", (len(instances), *drivable.shape), "$.map")
        places = (f"$.map.instances[{i}]" for i in range(len(instances)))
        instances = [completed(*pair, mask=mask) for *pair, mask in zip(instances, places, masks, strict=True)]
    shape = (len(classes) if isinstance(classes, list) else None, *drivable.shape)
    return completed(
        part | {"instances": instances},
        "$.map",
        drivable=drivable,
        lanes=_grid(grids, "map_lanes", shape, "$.map"),
        lane_scores=_grid(grids, "map_lane_scores", shape, "$.map"),
    )


def _with_occupancy_grids(part: Any, grids: Grids) -> Any:
    if not isinstance(part, dict):
        return part
    cells = _grid(grids, "occupancy", (None, None, None), "$.occupancy")
    scores = _grid(grids, "occupancy_scores", cells.shape, "$.occupancy")
    instances = None
    if "occupancy_instances" in grids:
        instances = _grid(grids, "occupancy_instances", cells.shape, "$.occupancy", whole=True)
    return completed(part, "$.occupancy", cells=cells, scores=scores, instances=instances)


def _grid(grids: Grids, name: str, shape: Shape, place: str, *, whole: bool = False) -> NDArray[Any]:
    """A grid of numbers of this shape; `whole` ones are int32, or what that holds."""
    grid = grids.get(name)
    fitting = grid is not None and (np.can_cast(grid.dtype, np.int32) if whole else grid.dtype.kind in "bfiu")
    if grid is None or not fitting or not _fits(grid.shape, shape):
        found = "none" if grid is None else f"{grid.dtype} of {_sizes(grid.shape)}"
        raise Misfit(place, f"its grid {name} does not fit: found {found}; JSON and npz must be of one run")
    if max(grid.shape[-2:]) > MAX_SIDE:
        raise Misfit(place, f"its grid {name} is {_sizes(grid.shape)}; the most is {MAX_SIDE} cells along a side")
    return grid


def _require_sense(result: FrameResult) -> None:
    """Raise Misfit for arrays that do not fit together, and for ranges that hold nothing."""
    motions = {f"$.boxes[{i}].motion": box.motion for i, box in enumerate(result.boxes)}
    for place, motion in (motions | {"$.ego_motion": result.ego_motion}).items():
        if motion is not None:
            _require_shape(f"{place}.probabilities", motion.probabilities, (None,))
            _require_shape(f"{place}.trajectories", motion.trajectories, (len(motion.probabilities), None, 2))
    for i, box in enumerate(result.boxes):
        _require_sizes(f"$.boxes[{i}].size", np.array(box.size))
    if result.plan is not None:
        _require_shape("$.plan.points", result.plan.points, (None, 2))
    if result.detections is not None:
        _require_detection_sense(result.detections)
    if result.occupancy is not None and result.occupancy.instances is not None:
        _require_instance_sense(result.occupancy.cells, result.occupancy.instances, len(result.boxes))
    for place, grid in {"$.map": result.map, "$.occupancy": result.occupancy}.items():
        for name in ("x_range", "y_range") if grid is not None else ():
            low, high = getattr(grid, name)
            if low >= high:
                raise Misfit(f"{place}.{name}", f"expected two numbers in ascending order, found {low:g} and {high:g}")


def _require_detection_sense(detections: Detections) -> None:
    """Raise Misfit for labels without a class, and for another order than by score."""
    labels, classes = detections.labels, len(detections.classes)
    strangers = labels[(labels < 0) | (labels >= classes)]
    if len(strangers):
        raise Misfit("$.detections.labels", f"expected places among {classes} classes, found {strangers[0]}")
    if (np.diff(detections.scores) > 0).any():
        raise Misfit("$.detections.scores", "expected numbers in descending order")
    _require_sizes("$.detections.boxes", detections.boxes[:, 3:6])


def _require_sizes(place: str, sizes: NDArray[np.floating[Any]]) -> None:
    """Raise Misfit for a size below zero; that of a tiny box may be rounded to zero."""
    if (sizes < 0).any():
        raise Misfit(place, f"expected sizes of at least 0, found {sizes.min():g}")


def _require_instance_sense(cells: NDArray[np.bool_], instances: NDArray[np.int32], boxes: int) -> None:
    """Raise Misfit for instances that are no box, and for cells whose instance says otherwise than they."""
    place = "$.occupancy.instances"
    strangers = instances[(instances < 0) | (instances > boxes)]
    if len(strangers):
        raise Misfit(place, f"expected 0 to {boxes}, the number of boxes, found {strangers[0]}")
    if ((instances > 0) != cells).any():
        raise Misfit(place, "expected 0 where the cell is free, and only there")


def _require_shape(place: str, array: NDArray[Any], shape: Shape) -> None:
    if not array.size:
        raise Misfit(place, "expected numbers, found none")
    if not _fits(array.shape, shape):
        found = array.shape if array.ndim == len(shape) else (1,) * len(shape)
        wanted = [max(size, 1) if exact is None else exact for exact, size in zip(shape, found, strict=True)]
        raise Misfit(place, f"expected {_sizes(wanted)} numbers, found {_sizes(array.shape)}")


def _fits(found: tuple[int, ...], shape: Shape) -> bool:
    return len(found) == len(shape) and all(
        size > 0 if exact is None else size == exact for size, exact in zip(found, shape, strict=True)
    )


def _sizes(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
