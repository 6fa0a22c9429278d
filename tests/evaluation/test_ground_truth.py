"""What a data set knows, against the reference and from every source."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")

from tests.evaluation.conftest import Arrays, Located
from toolkit.data.ground_truth import Gap, GapCount, GroundTruth, counted
from toolkit.data.plugin import uniad_frame_sources
from toolkit.data.sources import open_ground_truth
from toolkit.errors import InputError

NOISE = 1e-11
"""Metres, m/s and radians: the order of sums in FP64, with coordinates of a kilometre."""
Infos = list[dict[str, Any]]


def opened(address: str) -> GroundTruth:
    return open_ground_truth(address, uniad_frame_sources())


def turned_away(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Difference of angles, wherever they are cut."""
    return np.asarray((one - other + np.pi) % (2 * np.pi) - np.pi)


def test_boxes_of_the_reference(golden_frames: list[Located], golden_trajectories: Arrays) -> None:
    """All of them, hit or not, in their order; classes that are not detected keep the data set's names."""
    for located in golden_frames:
        objects = located.frame.objects
        assert objects is not None
        golden = {name: golden_trajectories[f"{located.prefix}.{name}"] for name in
                  ("gt_boxes", "gt_velocity", "gt_names", "gt_inds", "num_lidar_pts", "valid_flag")}  # fmt: skip
        np.testing.assert_allclose(objects.center, golden["gt_boxes"][:, :3], rtol=0, atol=NOISE)
        np.testing.assert_array_equal(objects.size, golden["gt_boxes"][:, 3:6])
        headings = -golden["gt_boxes"][:, 6] - np.pi / 2
        np.testing.assert_allclose(turned_away(objects.heading, headings), 0, atol=NOISE)
        np.testing.assert_allclose(objects.velocity, golden["gt_velocity"], rtol=0, atol=NOISE)
        assert list(objects.label) == golden["gt_names"].tolist()
        np.testing.assert_array_equal(objects.number, golden["gt_inds"])
        np.testing.assert_array_equal(objects.lidar_points, golden["num_lidar_pts"])
        np.testing.assert_array_equal(objects.hit, golden["valid_flag"])


@pytest.fixture(scope="module")
def infos(golden_frames: list[Located], golden_trajectories: Arrays) -> Infos:
    """The golden boxes as an info file has them."""
    names = ("gt_boxes", "gt_velocity", "gt_names", "gt_inds", "num_lidar_pts", "valid_flag")
    return [
        {
            "token": located.frame.token,
            "scene_token": located.scene.name,
            "timestamp": located.frame.microseconds,
            "can_bus": np.zeros(18),
            "cams": {},
            "lidar2ego_rotation": located.frame.lidar2ego.quaternion.tolist(),
            "lidar2ego_translation": located.frame.lidar2ego.translation.tolist(),
            "ego2global_rotation": located.frame.ego2global.quaternion.tolist(),
            "ego2global_translation": located.frame.ego2global.translation.tolist(),
            **{name: golden_trajectories[f"{located.prefix}.{name}"] for name in names},
        }
        for located in golden_frames
    ]


def write_infos(path: Path, infos: Infos) -> str:
    path.write_bytes(pickle.dumps({"infos": infos}))
    return f"infos:{path}"


@pytest.mark.parametrize("yaw_is_heading", [False, True])
def test_info_files_hold_the_same(golden_evaluation: Path, infos: Infos, tmp_path: Path, yaw_is_heading: bool) -> None:
    """In either convention of the yaw: which one it is, moving objects show."""
    if yaw_is_heading:
        infos = [{**info, "gt_boxes": info["gt_boxes"] * [1, 1, 1, 1, 1, 1, -1] - [0, 0, 0, 0, 0, 0, np.pi / 2]}
                 for info in infos]  # fmt: skip
    read = opened(write_infos(tmp_path / "infos.pkl", infos[::-1]))
    for scene, wanted in zip(read.scenes, opened(f"nuscenes:{golden_evaluation / 'db'}").scenes, strict=True):
        assert scene.name == wanted.name
        for frame, other in zip(scene.frames, wanted.frames, strict=True):
            assert (frame.token, frame.microseconds) == (other.token, other.microseconds)
            one, two = frame.objects, other.objects
            assert one is not None
            assert two is not None
            for name in ("center", "position", "ahead", "velocity", "size", "number", "hit"):
                np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=0, atol=1e-9, err_msg=name)
            np.testing.assert_allclose(turned_away(one.heading, two.heading), 0, atol=1e-9)
            assert one.label == two.label
    assert read.map_layers("boston-seaport", ()) is None


def test_info_files_of_a_test_set_have_no_objects(infos: Infos, tmp_path: Path) -> None:
    bare = [{name: value for name, value in info.items() if not name.startswith("gt_")} for info in infos]
    truth = opened(write_infos(tmp_path / "infos.pkl", bare))
    assert all(frame.objects is None for scene in truth.scenes for frame in scene.frames)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("gt_boxes", np.zeros((3, 7)), r"infos\[1\]\.gt_boxes: expected 13 x 7 numbers"),
        ("gt_boxes", np.full((13, 7), np.nan), r"infos\[1\]\.gt_boxes: holds a value that is not finite"),
        ("gt_velocity", np.zeros(13), r"infos\[1\]\.gt_velocity: expected 13 x 2 numbers"),
        ("gt_inds", np.arange(3), r"infos\[1\]\.gt_inds: has 3 values for 13 boxes; create the info files again"),
        ("gt_names", 5, r"infos\[1\]\.gt_names: is no array with one value for each box, found 5"),
        ("valid_flag", ["yes"], r"infos\[1\]\.valid_flag: is no array with one value for each box"),
        ("timestamp", 0.5, r"infos\[1\]\.timestamp: expected whole microseconds, found 0\.5"),
    ],
)
def test_damaged_info_files(infos: Infos, tmp_path: Path, field: str, value: Any, message: str) -> None:
    assert len(infos[1]["gt_names"]) == 13
    damaged = [infos[0], {**infos[1], field: value}, *infos[2:]]
    with pytest.raises(InputError, match=message):
        opened(write_infos(tmp_path / "infos.pkl", damaged))


@pytest.fixture
def copied(golden_evaluation: Path, tmp_path: Path) -> Path:
    return shutil.copytree(golden_evaluation / "db", tmp_path / "db", copy_function=shutil.copyfile)


def edit(dataroot: Path, table: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
    path = dataroot / f"v1.0-mini/{table}.json"
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))


def test_scenes_can_be_chosen(golden_evaluation: Path) -> None:
    chosen = opened(f"nuscenes:{golden_evaluation / 'db'}?scenes=scene-0916").scenes
    assert [(scene.name, scene.location, len(scene.frames)) for scene in chosen] == [
        ("scene-0916", "singapore-queenstown", 15)
    ]


def test_a_version_without_annotations_has_no_objects(copied: Path) -> None:
    for table in ("sample_annotation", "instance"):
        edit(copied, table, list.clear)
    truth = opened(f"nuscenes:{copied}")
    assert all(frame.objects is None for scene in truth.scenes for frame in scene.frames)


def test_a_frame_in_which_nothing_is_seen_has_objects_none_of_them(copied: Path) -> None:
    """In an annotated scene an empty street is knowledge."""
    first = json.loads((copied / "v1.0-mini/sample.json").read_text())[0]["token"]

    def empty(records: list[dict[str, Any]]) -> None:
        gone = [one["token"] for one in records if one["sample_token"] == first]
        records[:] = [
            one | {"prev": "" if one["prev"] in gone else one["prev"]} for one in records if one["token"] not in gone
        ]

    edit(copied, "sample_annotation", empty)
    objects = opened(f"nuscenes:{copied}").scenes[0].frames[0].objects
    assert objects is not None
    assert len(objects.label) == 0


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("sample_annotation", lambda records: records[0].update(size=[1, 2]),
         r"annotations of sample \w+: size: expected \d+ x 3 numbers"),
        ("sample_annotation", lambda records: records[0].update(translation=[1e300, 0, 0]),
         r"annotations of sample \w+: translation: holds a value above"),
        ("sample_annotation", lambda records: records[0].update(rotation=[0, 0, 0, 0]),
         r"annotations of sample \w+: rotation: holds a quaternion whose norm is not 1"),
        ("sample_annotation", lambda records: records[0].update(instance_token="x"), "cannot be used: KeyError: 'x'"),
        ("sample_annotation", lambda records: records[0].update(num_lidar_pts="many"), "cannot be used: ValueError"),
        ("log", lambda records: records[0].update(location=7), r"log \w+: location: expected a non-empty string"),
        ("sample_data", lambda records: records[0].update(is_key_frame=False), r"data\.LIDAR_TOP: is missing"),
        ("sample", lambda records: records[0].update(timestamp=-1), "timestamp -1 is no time"),
    ],
)  # fmt: skip
def test_damaged_tables(copied: Path, table: str, change: Callable[[list[Any]], object], message: str) -> None:
    edit(copied, table, change)
    with pytest.raises(InputError, match=message):
        opened(f"nuscenes:{copied}")


def test_frames_without_ground_truth(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a frame folder holds no ground truth; give nuscenes:DATAROOT.* or infos:"):
        opened(str(tmp_path))


def test_gaps_are_counted_by_name() -> None:
    gaps = [Gap("a", "annotations"), Gap("b", "the map of x"), Gap("c", "annotations")]
    assert counted(gaps) == [GapCount("annotations", 2, "a"), GapCount("the map of x", 1, "b")]
    assert [str(count) for count in counted(gaps)] == [
        "annotations: missing in 2 frames, first a",
        "the map of x: missing in 1 frame, first b",
    ]
