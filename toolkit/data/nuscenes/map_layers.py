"""Layers of nuScenes' vector maps, read through nuScenes' devkit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.ground_truth import Layers
from toolkit.errors import InputError
from toolkit.text import one_line

if TYPE_CHECKING:
    from nuscenes.map_expansion.map_api import NuScenesMap


def read_map_layers(dataroot: Path, location: str, names: Sequence[str]) -> Layers | None:
    """The geometries of these layers in the global frame (m), in the order of their records; None without such a map.

    Raises InputError for a damaged file, or one of an old version.
    """
    path = dataroot / "maps" / "expansion" / f"{location}.json"
    if not path.is_file():
        return None
    from nuscenes.map_expansion.map_api import NuScenesMap

    try:
        opened = NuScenesMap(str(dataroot), location)
        return {name: _layer(opened, name) for name in names}
    except Exception as error:  # the devkit asserts, looks up without checking, and raises plain Exceptions
        raise InputError(f"{path}: cannot be used: {one_line(error)}; unpack the map expansion again") from error


def _layer(opened: NuScenesMap, name: str) -> NDArray[np.object_]:
    import shapely

    geometries = np.array(list(_geometries(opened, name)), np.object_)
    if not np.isfinite(shapely.get_coordinates(geometries)).all():
        raise ValueError(f"layer {name} holds a coordinate that is not finite")
    filled: NDArray[np.object_] = geometries[~shapely.is_empty(geometries)]
    return filled


def _geometries(opened: NuScenesMap, name: str) -> Iterator[Any]:
    explorer = opened.explorer
    for record in getattr(opened, name):
        if "line_token" in record:
            yield explorer.extract_line(record["line_token"])
        elif "polygon_token" in record:
            yield explorer.extract_polygon(record["polygon_token"])
        else:
            yield from map(explorer.extract_polygon, record["polygon_tokens"])
