"""`synthesize` writes a nuScenes dataset: nuscenes-devkit reads it, and what it says agrees with itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.can_bus.can_bus_api import NuScenesCanBus
from nuscenes.map_expansion.arcline_path_utils import discretize_lane
from nuscenes.map_expansion.bitmap import BitMap
from nuscenes.map_expansion.map_api import NuScenesMap, locations
from nuscenes.map_expansion.utils import get_disconnected_lanes, get_egoposes_on_drivable_ratio
from nuscenes.tests.assert_download import verify_setup
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box
from nuscenes.utils.splits import create_splits_scenes
from pyquaternion import Quaternion

from toolkit.cli.main import run
from toolkit.config.model import CAMERAS
from toolkit.errors import InputError
from toolkit.synthetic.dataset import DriveSettings, synthesize
from toolkit.synthetic.versions import SCENES, scene_name

pytestmark = pytest.mark.slow

KEYFRAMES = 6


@pytest.fixture(scope="module")
def dataroot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes with small pictures."""
    folder = tmp_path_factory.mktemp("drive") / "dataroot"
    settings = DriveSettings(scenes=2, keyframes=KEYFRAMES, image_scale=0.25)
    assert len(list(synthesize(folder, settings))) == 2 * KEYFRAMES
    return folder


@pytest.fixture(scope="module")
def nusc(dataroot: Path) -> NuScenes:
    return NuScenes("v1.0-mini", str(dataroot), verbose=False)


def annotations_in_turn(nusc: NuScenes) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Annotations of the same object in key frames that follow each other."""
    for annotation in nusc.sample_annotation:
        if annotation["next"]:
            yield annotation, nusc.get("sample_annotation", annotation["next"])


def test_the_devkit_lists_it(nusc: NuScenes, capsys: pytest.CaptureFixture[str]) -> None:
    nusc.list_scenes()
    nusc.list_categories()
    nusc.list_attributes()
    nusc.list_sample(nusc.sample[0]["token"])
    verify_setup(nusc)
    listed = capsys.readouterr().out
    assert "scene-0061, Made-up town" in listed
    assert "movable_object.trafficcone" in listed
    assert "pedestrian.moving" in listed


def test_every_sample_has_six_pictures_and_a_scan(nusc: NuScenes) -> None:
    assert len(nusc.sample) == 2 * KEYFRAMES
    for sample in nusc.sample:
        assert sorted(sample["data"]) == sorted([*CAMERAS, "LIDAR_TOP"])
        for channel in CAMERAS:
            record = nusc.get("sample_data", sample["data"][channel])
            picture = cv2.imread(nusc.get_sample_data_path(record["token"]))
            assert picture is not None
            assert picture.shape == (record["height"], record["width"], 3)
            assert 0 < sample["timestamp"] - record["timestamp"] < 50_000  # µs, the cameras fire before the scan ends


def test_records_are_linked_in_time(nusc: NuScenes) -> None:
    for scene in nusc.scene:
        token, times = scene["first_sample_token"], []
        while token:
            sample = nusc.get("sample", token)
            times.append(sample["timestamp"])
            token = sample["next"]
        assert len(times) == scene["nbr_samples"]
        assert [b - a for a, b in pairwise(times)] == [500_000] * (KEYFRAMES - 1)
    for record in nusc.sample_data:
        if record["next"]:
            assert nusc.get("sample_data", record["next"])["prev"] == record["token"]
    for instance in nusc.instance:
        token, count = instance["first_annotation_token"], 0
        while token:
            last, count = token, count + 1
            token = nusc.get("sample_annotation", token)["next"]
        assert (last, count) == (instance["last_annotation_token"], instance["nbr_annotations"])


def test_the_scenes_belong_to_the_splits() -> None:
    splits = create_splits_scenes()
    for version, train, val in (("v1.0-mini", "mini_train", "mini_val"), ("v1.0-trainval", "train", "val")):
        names = [scene_name(number) for number in SCENES[version]]
        assert set(names) <= {*splits[train], *splits[val]}
        assert names[0] in splits[train]
        assert names[1] in splits[val]
    assert {scene_name(number) for number in SCENES["v1.0-test"]} <= set(splits["test"])


@pytest.mark.parametrize("location", locations)
def test_the_map_loads(dataroot: Path, location: str) -> None:
    nusc_map = NuScenesMap(str(dataroot), location)
    assert all(nusc_map.json_obj[layer] for layer in nusc_map.layer_names)
    assert get_disconnected_lanes(nusc_map) == []
    for way, path in nusc_map.arcline_path_3.items():
        ends = discretize_lane(path, 0.5)[-1][:2], path[-1]["end_pose"][:2]
        np.testing.assert_allclose(*ends, atol=0.01, err_msg=way)
        for after in nusc_map.get_outgoing_lane_ids(way):
            np.testing.assert_allclose(nusc_map.arcline_path_3[after][0]["start_pose"][:2], ends[1], atol=0.01)
    masks = nusc_map.get_map_mask((270, 270, 120, 120), 0, ["drivable_area", "walkway", "ped_crossing"], (240, 240))
    assert masks.any(axis=(1, 2)).all()
    edge = nusc_map.canvas_edge
    assert BitMap(str(dataroot), location, "semantic_prior").image.shape == (edge[1] * 10, edge[0] * 10)


def test_the_ego_vehicle_stays_on_its_lane(nusc: NuScenes, dataroot: Path) -> None:
    for scene in nusc.scene:
        log = nusc.get("log", scene["log_token"])
        nusc_map = NuScenesMap(str(dataroot), log["location"])
        assert get_egoposes_on_drivable_ratio(nusc, nusc_map, scene["token"]) == 1.0
        sample = nusc.get("sample", scene["first_sample_token"])
        pose = nusc.get("ego_pose", nusc.get("sample_data", sample["data"]["LIDAR_TOP"])["ego_pose_token"])
        x, y = pose["translation"][:2]
        lane = nusc_map.get_closest_lane(x, y)
        assert nusc_map.record_on_point(x, y, "lane") == lane
        points = np.array(nusc_map.discretize_lanes([lane], 0.1)[lane])
        nearest = points[np.linalg.norm(points[:, :2] - (x, y), axis=1).argmin()]
        assert np.cos(nearest[2] - Quaternion(pose["rotation"]).yaw_pitch_roll[0]) > 0.999  # in its direction
        assert nusc.get("map", log["map_token"])["mask"].is_on_mask(x, y).all()


def test_objects_move_as_their_velocity_says(nusc: NuScenes) -> None:
    moved = 0.0
    for before, after in annotations_in_turn(nusc):
        step = np.array(after["translation"]) - before["translation"]
        velocity = (nusc.box_velocity(before["token"]) + nusc.box_velocity(after["token"])) / 2
        np.testing.assert_allclose(step, velocity * 0.5, atol=0.35)
        moved = max(moved, float(np.linalg.norm(step)))
        turned = Quaternion(before["rotation"]).inverse * Quaternion(after["rotation"])
        assert turned.degrees < 45
        assert before["size"] == after["size"]
    assert moved > 2


def test_vehicles_drive_forward(nusc: NuScenes) -> None:
    for annotation in nusc.sample_annotation:
        velocity = nusc.box_velocity(annotation["token"])[:2]
        if annotation["category_name"].startswith("vehicle") and np.linalg.norm(velocity) > 2:
            yaw = Quaternion(annotation["rotation"]).yaw_pitch_roll[0]
            assert velocity @ (np.cos(yaw), np.sin(yaw)) > 0.9 * np.linalg.norm(velocity)


def test_vehicles_do_not_collide(nusc: NuScenes) -> None:
    for sample in nusc.sample:
        boxes = [box for box in map(nusc.get_box, sample["anns"]) if box.name.startswith("vehicle")]
        for i, box in enumerate(boxes):
            for other in boxes[:i]:
                assert not points_in_box(box, other.center[:, None]).any(), (box.name, other.name)


def test_lidar_counts_are_those_of_the_point_cloud(nusc: NuScenes) -> None:
    wrong = 0
    for sample in nusc.sample:
        path, boxes, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
        points = LidarPointCloud.from_file(path).points[:3]
        assert points.shape[1] > 10_000
        for box in boxes:
            said = nusc.get("sample_annotation", box.token)["num_lidar_pts"]
            wrong += int(points_in_box(box, points).sum()) != said
    assert wrong <= 0.01 * len(nusc.sample_annotation)  # people who pass through each other share their points


def test_what_is_hidden_is_said_to_be_hidden(nusc: NuScenes) -> None:
    levels = {annotation["visibility_token"] for annotation in nusc.sample_annotation}
    assert levels == {"1", "2", "3", "4"}
    near = [a for a in nusc.sample_annotation if a["num_lidar_pts"] > 200]
    assert near
    assert sum(a["visibility_token"] in "34" for a in near) > 0.9 * len(near)


def test_the_bus_agrees_with_the_poses(nusc: NuScenes, dataroot: Path) -> None:
    bus = NuScenesCanBus(str(dataroot))
    for scene in nusc.scene:
        for name in bus.all_messages:
            assert bus.get_messages(scene["name"], name)
        poses = bus.get_messages(scene["name"], "pose")
        times, places = np.array([p["utime"] / 1e6 for p in poses]), np.array([p["pos"] for p in poses])
        yaws = np.unwrap([Quaternion(p["orientation"]).yaw_pitch_roll[0] for p in poses])
        speeds = np.array([p["vel"][0] for p in poses])
        np.testing.assert_allclose(np.hypot(*np.gradient(places, times, axis=0)[:, :2].T), speeds, atol=0.05)
        np.testing.assert_allclose(np.gradient(speeds, times), [p["accel"][0] for p in poses], atol=0.3)
        np.testing.assert_allclose(np.gradient(yaws, times), [p["rotation_rate"][2] for p in poses], atol=0.06)
        monitor = bus.get_messages(scene["name"], "vehicle_monitor")
        assert monitor[1]["vehicle_speed"] == pytest.approx(3.6 * speeds[25], abs=0.01)
        sample = nusc.get("sample", scene["first_sample_token"])
        record = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
        i = int(np.flatnonzero(times == record["timestamp"] / 1e6)[0])
        np.testing.assert_allclose(places[i], nusc.get("ego_pose", record["ego_pose_token"])["translation"], atol=1e-3)
        assert len(bus.list_misaligned_routes()) == 0


def test_cameras_have_their_own_ego_poses(nusc: NuScenes) -> None:
    """The vehicle moves on between the exposures of two cameras."""
    data = nusc.sample[0]["data"]
    records = [nusc.get("sample_data", data[channel]) for channel in ("CAM_FRONT_LEFT", "LIDAR_TOP")]
    first, last = (np.array(nusc.get("ego_pose", r["ego_pose_token"])["translation"]) for r in records)
    speed = np.linalg.norm(last - first) / (records[1]["timestamp"] - records[0]["timestamp"]) * 1e6
    assert 3 < speed < 12


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_seed_gives_the_same_dataset(tmp_path: Path) -> None:
    contents = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        list(synthesize(tmp_path / name, DriveSettings(scenes=1, keyframes=1, seed=seed, image_scale=0.1)))
        contents.append(content_of(tmp_path / name))
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]
    # Pictures, and what is seen in them, may differ between versions of OpenCV. Poses, maps and the bus may not.
    digest = hashlib.sha256()
    for name, content in contents[0].items():
        if name.endswith(("ego_pose.json", "expansion/boston-seaport.json", "_pose.json")):
            digest.update(content)
    assert digest.hexdigest() == DIGEST_OF_SEED_3


DIGEST_OF_SEED_3 = "46402db9c9b82732f8be84bd4c49d5ba40df024d039387be035a475ed4051858"


def test_processes_give_the_same_dataset(tmp_path: Path) -> None:
    settings = DriveSettings(scenes=3, keyframes=1, image_scale=0.05)
    lines = [list(synthesize(tmp_path / str(workers), settings, workers=workers)) for workers in (1, 2)]
    assert lines[0] == lines[1]
    assert content_of(tmp_path / "1") == content_of(tmp_path / "2")


def test_the_test_set_has_no_annotations(tmp_path: Path) -> None:
    list(synthesize(tmp_path / "test", DriveSettings(1, 1, 0, "v1.0-test", 0.1)))
    nusc = NuScenes("v1.0-test", str(tmp_path / "test"), verbose=False)
    assert nusc.scene[0]["name"] == "scene-0077"
    assert not nusc.sample_annotation


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--scenes", "0"], "--scenes 0: v1.0-mini has names for 1 to 10 scenes"),
        (["--scenes", "11"], "--scenes 11: v1.0-mini has names for 1 to 10 scenes"),
        (["--scenes", "21", "--version", "v1.0-trainval"], "--scenes 21: v1.0-trainval has names for 1 to 20 scenes"),
        (["--keyframes", "0"], "--keyframes 0: must be 1 to 2000"),
        (["--keyframes", "-3"], "--keyframes -3: must be 1 to 2000"),
        (["--seed", "-1"], "--seed -1: must not be negative"),
        (["--image-scale", "0.04"], "--image-scale 0.04: must be 0.05 to 1"),
        (["--image-scale", "nan"], "--image-scale nan: must be 0.05 to 1"),
        (["--version", "v1.1"], "--version v1.1: is not a version of nuScenes"),
    ],
)
def test_refuses_what_cannot_be(
    options: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["synthesize", "-o", str(tmp_path / "out"), *options]) == 2
    assert complaint in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_keeps_an_existing_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/photo.jpg").touch()
    for options in ([], ["--force"]):
        assert run(["synthesize", "-o", str(tmp_path / "precious"), *options]) == 2
    complaints = capsys.readouterr().err
    assert "already exists; choose another output" in complaints
    assert "was not written by this toolkit" in complaints


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_bytes(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(InputError, match=r"cannot write .*dataroot: No space left on device"):
        list(synthesize(tmp_path / "dataroot", DriveSettings(1, 1)))
    assert not list(tmp_path.iterdir())


def test_the_command_says_where_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["synthesize", "-o", str(tmp_path / "set"), "--scenes", "1", "--keyframes", "1"]) == 0
    assert "wrote v1.0-mini with 1 scene of 1 key frame" in capsys.readouterr().out.replace("\n", " ")
    assert (tmp_path / "set/v1.0-mini/sample_annotation.json").exists()
