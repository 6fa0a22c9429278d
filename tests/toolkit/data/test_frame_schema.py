"""The JSON schema of a frame accepts what the reader accepts, but for what a schema cannot say."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from toolkit.config.model import CAMERAS
from toolkit.data.frame_folder import read_frame_folder, write_frame
from toolkit.data.frames import CameraView, CanReading, Command, Frame, Pose
from toolkit.errors import InputError

pytestmark = pytest.mark.thorough

SCHEMA = json.loads(files("toolkit.data").joinpath("frame_folder.schema.json").read_text(encoding="utf-8"))
BEYOND_A_SCHEMA = ("normalise it to 1", "not orthonormal", "is a reflection", "does not exist")
VALUES: tuple[Any, ...] = (
    None, True, "x", "", [], {}, -1, 0, 1.0, 2, 2.5, 1e10, 1e12, 10**400, "left", [0, 0, 0], [1, 0, 0, 0], ["0", 0, 0],
    [0, 0, True], [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 0], [0, 0, 2]], [[-1, 0, 0], [0, 1, 0]],
)  # fmt: skip


def good_frame(folder: Path) -> dict[str, Any]:
    identity = Pose(np.array([1.0, 0, 0, 0]), np.zeros(3))
    view = CameraView(np.zeros((4, 4, 3), np.uint8), np.diag([2.0, 2, 1]), identity)
    views = dict.fromkeys(CAMERAS, view)
    frame = Frame("0", "monday", 0.0, views, identity, identity, Command.LEFT, CanReading())
    values: dict[str, Any] = json.loads(write_frame(frame, folder).read_text())
    values["ego2global"]["rotation"] = np.eye(3).tolist()
    return values


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a document but the whole, one camera standing for all."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if key not in CAMERAS[1:]:
            yield from places(item, (*path, key))


def changed(document: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """A copy with another value at a place; the value ... removes it."""
    result = copy.deepcopy(document)
    inner: Any = result
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return result


def fault(document: dict[str, Any], folder: Path) -> str | None:
    """What the reader says against a document."""
    (folder / "0.json").write_text(json.dumps(document))
    try:
        read_frame_folder(folder)
    except InputError as error:
        return str(error)
    return None


def test_the_schema_is_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("value", [*VALUES, ...], ids=lambda value: "removed" if value is ... else repr(value)[:20])
def test_schema_and_reader_agree(value: Any, tmp_path: Path) -> None:
    """On every place of a frame where something is replaced or removed."""
    good, validator = good_frame(tmp_path), Draft202012Validator(SCHEMA)
    assert fault(good, tmp_path) is None
    for path in places(good):
        document = changed(good, path, value)
        said = fault(document, tmp_path)
        if said is None or not any(words in said for words in BEYOND_A_SCHEMA):
            assert validator.is_valid(document) == (said is None), f"{path}: {said}"


@pytest.mark.parametrize("path", [(), ("can_bus",), ("lidar2ego",), ("cameras",), ("cameras", "CAM_FRONT")])
def test_schema_and_reader_agree_on_further_fields(path: tuple[str, ...], tmp_path: Path) -> None:
    document = changed(good_frame(tmp_path), (*path, "further"), 1)
    assert (
        Draft202012Validator(SCHEMA).is_valid(document) == (fault(document, tmp_path) is None) == (path == ("cameras",))
    )
