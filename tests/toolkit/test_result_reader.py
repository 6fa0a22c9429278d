"""Results read back are those that were written; anything else is refused by file and field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.visualize.drives import full_result, result
from toolkit.errors import InputError
from toolkit.runtime.result_reader import open_results, read_result
from toolkit.runtime.results import FrameResult, write_result
from toolkit.runtime.state_guard import Repairs


def rewritten(read: FrameResult, folder: Path) -> tuple[str, dict[str, np.ndarray]]:
    """JSON and grids of a result."""
    path = write_result(read, folder)
    grids = path.with_suffix(".npz")
    return path.read_text(), dict(np.load(grids)) if grids.exists() else {}


@pytest.mark.parametrize("written", [full_result(), result(), result(repairs=Repairs(2, ("prev_bev",), True))])
def test_written_results_come_back(written: FrameResult, tmp_path: Path) -> None:
    read = read_result(write_result(written, tmp_path / "first"))
    (first, grids), (second, same_grids) = (rewritten(written, tmp_path / "a"), rewritten(read, tmp_path / "b"))
    assert first == second
    assert grids.keys() == same_grids.keys()
    for name, grid in grids.items():
        np.testing.assert_array_equal(same_grids[name], grid)
        assert same_grids[name].dtype == grid.dtype
    assert read.repairs == written.repairs


def test_a_folder_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("0002", "0001", "0010"):
        write_result(full_result(name), tmp_path)
    results = open_results(tmp_path)
    assert len(results) == 3
    assert [read.frame for read in results] == ["0001", "0002", "0010"]


def test_results_of_two_models_do_not_mix(tmp_path: Path) -> None:
    write_result(full_result("0001"), tmp_path)
    write_result(result("0002"), tmp_path)
    with pytest.raises(InputError, match=r"0002\.json: is of another model than 0001\.json"):
        list(open_results(tmp_path))


@pytest.mark.parametrize(("name", "message"), [("nothing", "is not a folder"), ("", "holds no result")])
def test_no_results(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        open_results(tmp_path / name)


def change(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def edit(values: Any) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = to

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda values: values.pop("repairs"), "is no result of this version"),
        (change("frame", to="0008"), r"frame: is '0008', unlike the file's name"),
        (change("boxes", to={}), "boxes: expected a list"),
        (change("boxes", 0, "center", to=[1, 2]), r"boxes\[0\]\.center: expected 3 numbers"),
        (change("boxes", 1, "track_id", to="a"), r"boxes\[1\]\.track_id: expected a whole number"),
        (change("boxes", 0, "motion", "trajectories", to=[[[1, 2]]]), r"motion\.trajectories: expected 6 x 1 x 2"),
        (change("plan", "points", to=[[1, 2], [3]]), r"plan\.points: expected 2 x 2 numbers"),
        (change("plan", "points", to=[[1, float("nan")]]), r"plan\.points: holds a value that is not finite"),
        (change("map", "lane_classes", to=["divider"]), "map: its grid map_lanes does not fit"),
        (change("map", "x_range", to=[1, 1]), r"map\.x_range: expected two numbers in ascending order"),
        (change("map", "instances", to=[{}]), "map: its grid map_instance_masks does not fit"),
        (change("occupancy", "step_seconds", to=None), r"occupancy\.step_seconds: expected"),
        (change("command", to="back"), "command: expected"),
        (change("grids", to="other.npz"), r"other\.npz does not exist; copy the folder whole"),
    ],
)  # fmt: skip
def test_damaged_results(edit: Callable[[dict[str, Any]], None], message: str, tmp_path: Path) -> None:
    path = write_result(full_result(), tmp_path)
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=message) as raised:
        read_result(path)
    assert "\n" not in str(raised.value)


def test_damaged_grids(tmp_path: Path) -> None:
    path = write_result(full_result(), tmp_path)
    path.with_suffix(".npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InputError, match="is not a readable npz"):
        read_result(path)
