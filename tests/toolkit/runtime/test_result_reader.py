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
from toolkit.runtime.repairs import Repairs
from toolkit.runtime.result_reader import open_results, read_result
from toolkit.runtime.result_writer import write_result
from toolkit.runtime.results import Detections, FrameResult

EARLIER_GRIDS = ("map_lanes", "map_lane_scores", "map_drivable", "map_instance_masks", "occupancy", "occupancy_scores")


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
        (change("boxes", 0, "center", to=[1, 2]), r"boxes\[0\]\.center: expected a list of 3, found \[1, 2\]"),
        (change("boxes", 1, "track_id", to="a"), r"boxes\[1\]\.track_id: expected int, found 'a'"),
        (change("boxes", 0, "motion", "trajectories", to=[[[1, 2]]]), r"motion\.trajectories: expected 6 x 1 x 2"),
        (change("boxes", 0, "size", to=[2, -4, 1]), r"boxes\[0\]\.size: expected sizes of at least 0, found -4"),
        (change("plan", "points", to=[[1, 2], [3]]), r"plan\.points: expected 2 x 2 numbers"),
        (change("plan", "points", to=[[1, float("nan")]]), r"plan\.points: holds a value that is not finite"),
        (change("map", "lane_classes", to=["divider"]), "map: its grid map_lanes does not fit"),
        (change("map", "x_range", to=[1, 1]), r"map\.x_range: expected two numbers in ascending order"),
        (change("map", "instances", to=[{}]), "map: its grid map_instance_masks does not fit"),
        (change("occupancy", "step_seconds", to=None), r"occupancy\.step_seconds: expected"),
        (change("command", to="back"), "command: expected"),
        (change("ego_motion", "probabilities", to=[]), r"\$\.ego_motion\.probabilities: expected numbers, found none"),
        (change("boxes", 0, "motion", "trajectories", to=[]), r"motion\.trajectories: expected numbers, found none"),
        (change("ego_motion", "trajectories", to=[[1, 2]] * 6), r"expected 6 x 1 x 2 numbers, found 6 x 2"),
        (change("plan", "points", to=[]), r"\$\.plan\.points: expected numbers, found none"),
        (change("plan", "points", to=[[1, 2e9]]), r"\$\.plan\.points: holds a value above 1e\+09"),
        (change("timestamp", to=1e12), r"\$\.timestamp: expected at most 1e\+09, found 1000000000000\.0"),
        (change("boxes", 0, "label", to=""), r"\$\.boxes\[0\]\.label: expected str that is not empty, found ''"),
        (change("map", "lanes", to=[[1]]), r"\$\.map: unknown field 'lanes'"),
        (change("repairs", "ids_restarted", to=1), r"\$\.repairs\.ids_restarted: expected bool, found 1"),
        (change("weather", to="fine"), r"json: unknown field 'weather'; known fields: frame, scene"),
        (change("detections", to=[]), r"\$\.detections: expected an object or null, found list"),
        (change("detections", "classes", to=["car", ""]), r"detections\.classes\[1\]: expected str that is not empty"),
        (change("detections", "classes", to=["car"]), r"detections\.labels: expected places among 1 classes, found 1"),
        (change("detections", "scores", to=[]), r"\$\.detections: unknown field 'scores'"),
        (change("occupancy", "instances", to=[]), r"\$\.occupancy: unknown field 'instances'"),
        (change("boxes", to=[]), r"\$\.occupancy\.instances: expected 0 to 0, the number of boxes, found 1"),
        (change("grids", to="../0007.npz"), r"\$\.grids: expected the name of a file, found '\.\./0007\.npz'"),
        (change("grids", to="\x1b[2J.npz"), r"x1b\[2J\.npz does not exist; copy the folder whole"),
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
    assert str(raised.value).isprintable()


def test_results_of_a_version_without_detections_and_instances(tmp_path: Path) -> None:
    """Have none when read; everything else stays."""
    path = write_result(full_result(), tmp_path)
    values = json.loads(path.read_text())
    del values["detections"]
    path.write_text(json.dumps(values))
    grids = dict(np.load(path.with_suffix(".npz")))
    np.savez(path.with_suffix(".npz"), **{k: v for k, v in grids.items() if k in EARLIER_GRIDS})
    read = read_result(path)
    assert read.detections is None
    assert read.occupancy is not None
    assert read.occupancy.instances is None
    np.testing.assert_array_equal(read.occupancy.cells, grids["occupancy"])


def test_nothing_detected_is_not_the_same_as_no_detections(tmp_path: Path) -> None:
    nothing = Detections(("car",), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros((0, 9), np.float32))
    read = read_result(write_result(result(detections=nothing), tmp_path)).detections
    assert read is not None
    assert (read.classes, read.labels.shape, read.scores.shape, read.boxes.shape) == (("car",), (0,), (0,), (0, 9))


def test_damaged_grids(tmp_path: Path) -> None:
    path = write_result(full_result(), tmp_path)
    path.with_suffix(".npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InputError, match="is not a readable npz"):
        read_result(path)


@pytest.mark.parametrize(
    ("name", "grid", "message"),
    [
        ("map_drivable", np.ones((1, 40_000), np.bool_), "map_drivable is 1 x 40000; the most is 32767 cells"),
        ("occupancy", np.ones((1, 40_000, 1), np.bool_), "occupancy is 1 x 40000 x 1; the most is 32767 cells along a"),
        ("map_drivable", np.ones((0, 8), np.bool_), "map_drivable does not fit: found bool of 0 x 8"),
        ("map_lanes", np.full((3, 50, 50), "x"), "map_lanes does not fit: found <U1 of 3 x 50 x 50"),
        ("map_lane_scores", np.full((3, 50, 50), np.nan, np.float16), "lane_scores: holds a value that is not finite"),
        ("occupancy_scores", np.ones((1, 2)), "occupancy_scores does not fit: found float64 of 1 x 2; JSON and npz"),
        ("occupancy_instances", np.ones((5, 50, 50)), "occupancy_instances does not fit: found float64 of 5 x 50 x 50"),
        ("occupancy_instances", np.ones((5, 50, 50), np.int8), "instances: expected 0 where the cell is free, and"),
        ("detection_scores", np.ones((2, 1)), "detection_scores does not fit: found float64 of 2 x 1"),
        ("detection_scores", np.array([0.1, 0.8]), r"\$\.detections\.scores: expected numbers in descending order"),
        ("detection_labels", np.array([1, -1], np.int8), "labels: expected places among 2 classes, found -1"),
        ("detection_labels", np.array([1, 1]), "detection_labels does not fit: found int64 of 2"),
        ("detection_boxes", np.zeros((2, 7)), "detection_boxes does not fit: found float64 of 2 x 7; JSON and npz"),
        ("detection_boxes", np.full((2, 9), -0.5), "detections.boxes: expected sizes of at least 0, found -0.5"),
        ("detection_boxes", np.full((2, 9), np.inf), r"\$\.detections\.boxes: holds a value that is not finite"),
    ],
)  # fmt: skip
def test_grids_fit_before_anything_is_made_of_them(name: str, grid: np.ndarray, message: str, tmp_path: Path) -> None:
    """In shape, type, size and values."""
    path = write_result(full_result(), tmp_path)
    grids = dict(np.load(path.with_suffix(".npz"))) | {name: grid}
    np.savez(path.with_suffix(".npz"), **grids)
    with pytest.raises(InputError, match=message):
        read_result(path)
