"""Errors, miss rate, EPA and mean average precision of forecasts, against the reference and by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plugins.motion.judged import DETECTION_CATEGORIES, true_motions
from plugins.motion.metrics import (
    ERRORS,
    FINAL_METRES,
    MOTION_CATEGORIES,
    Forecasts,
    TrueMotions,
    match,
    motion_metrics,
    path_errors,
)
from plugins.tracking.rules import counts
from tests.evaluation.conftest import Located
from tests.evaluation.scenes import Thing, frame_at, scene_with
from toolkit.data.frames import Pose
from toolkit.data.ground_truth import Gap

CLASSES = (
    "car", "truck", "bus", "trailer", "construction_vehicle",
    "pedestrian", "motorcycle", "bicycle", "traffic_cone", "barrier",
)  # fmt: skip
RANGES = {"pedestrian": 40.0, "motorcycle": 40.0, "bicycle": 40.0, "traffic_cone": 30.0, "barrier": 30.0}
"""Metres from the ego within which a class is evaluated; 50 for the others."""
RACK = "static_object.bicycle_rack"
CATEGORIES: Mapping[str, Mapping[str, str]] = {
    "motion_category": MOTION_CATEGORIES,
    "detection_category": {name: name for name in CLASSES},
}


@dataclass(frozen=True)
class Database:
    """The tables of the reference's small data set, the futures of its boxes, and the results to judge."""

    tables: Mapping[str, list[dict[str, Any]]]
    futures: Mapping[str, np.ndarray]
    results: Mapping[str, list[dict[str, Any]]]

    def ego_places(self) -> dict[str, np.ndarray]:
        """By sample: where the LiDAR's pose of the ego is, [2] in metres."""
        poses = {pose["token"]: pose["translation"][:2] for pose in self.tables["ego_pose"]}
        [lidar] = (sensor["token"] for sensor in self.tables["sensor"] if sensor["channel"] == "LIDAR_TOP")
        mounts = {mount["token"] for mount in self.tables["calibrated_sensor"] if mount["sensor_token"] == lidar}
        return {
            data["sample_token"]: np.array(poses[data["ego_pose_token"]])
            for data in self.tables["sample_data"]
            if data["is_key_frame"] and data["calibrated_sensor_token"] in mounts
        }

    def annotations(self) -> list[list[dict[str, Any]]]:
        """Those of each sample, in the order of the futures' rows."""
        return [
            [box for box in self.tables["sample_annotation"] if box["sample_token"] == sample["token"]]
            for sample in self.tables["sample"]
        ]


@pytest.fixture(scope="session")
def database(golden_evaluation: Path) -> Database:
    folder = golden_evaluation / "db/v1.0-mini"
    tables = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    results = json.loads((golden_evaluation / "results/results_nusc.json").read_text())["results"]
    return Database(tables, dict(np.load(golden_evaluation / "gt_trajectories.npz")), results)


def in_a_rack(place: np.ndarray, racks: list[dict[str, Any]]) -> bool:
    """Whether a point [3] in global metres lies in the box of a bicycle rack."""
    for rack in racks:
        pose = Pose(np.array(rack["rotation"]), np.array(rack["translation"]))
        width, length, height = rack["size"]
        if (np.abs(pose.rotation.T @ (place - pose.translation)) <= np.array([length, width, height]) / 2).all():
            return True
    return False


def collect(database: Database, category: str) -> tuple[Forecasts, TrueMotions]:
    """What is evaluated: classes as they count, within their ranges, seen by a sensor, and no parked bicycles."""
    classes, ego = CATEGORIES[category], database.ego_places()
    forecasts, motions = [], []
    for number, boxes in enumerate(database.annotations()):
        token = database.tables["sample"][number]["token"]
        names = database.futures[f"s{number}.gt_names"]
        racks = [box for box, name in zip(boxes, names, strict=True) if name == RACK]

        def counts(label: str, place: np.ndarray, token: str = token, racks: list[dict[str, Any]] = racks) -> bool:
            near = np.linalg.norm(place[:2] - ego[token]) < RANGES.get(label, 50.0)
            return bool(near) and not (label in ("bicycle", "motorcycle") and in_a_rack(place, racks))

        for row, (box, name) in enumerate(zip(boxes, names, strict=True)):
            place = np.array(box["translation"])
            if name in classes and box["num_lidar_pts"] + box["num_radar_pts"] and counts(classes[name], place):
                steps = int(database.futures[f"s{number}.fut_mask"][row, :, 0].sum())
                path = database.futures[f"s{number}.fut"][row]
                motions.append((token, classes[name], place[:2], path, steps))
        for result in database.results[token]:
            place, label = np.array(result["translation"]), classes[result["detection_name"]]
            if counts(label, place):
                forecasts.append((token, label, place[:2], result["detection_score"], result["predict_traj"]))
    return Forecasts(*map(np.array, zip(*forecasts, strict=True))), TrueMotions(
        *map(np.array, zip(*motions, strict=True))
    )


@pytest.mark.parametrize("run", range(6))
def test_run_of_the_reference(database: Database, golden_evaluation: Path, run: int) -> None:
    """Both groupings in three matchings each: all counts the same, figures equal but for the order of sums."""
    golden = json.loads((golden_evaluation / "eval_metrics.json").read_text())["motion"][run]
    forecasts, truth = collect(database, golden["category"])
    final = None if golden["eval_mode"] == "standard" else FINAL_METRES
    figures = motion_metrics(forecasts, truth, CLASSES, golden["dist_ths"], golden["dist_th_tp"], final=final)
    for label in CLASSES:
        assert np.count_nonzero(truth.label == label) == golden["n_gt"][label]
        assert np.count_nonzero(forecasts.label == label) == golden["n_pred"][label]
        for distance, ap in golden["label_aps"][label].items():
            assert figures[label]["ap"][float(distance)] == pytest.approx(ap, abs=1e-9), (label, distance)
        for name in ERRORS:
            assert figures[label][name] == pytest.approx(golden["label_tp_errors"][label][f"{name}_err"], abs=1e-9)
        if golden["eval_mode"] == "epa":
            assert figures[label]["epa"] == pytest.approx(golden["EPA"][label], abs=1e-9)
    assert figures["mean_ap"] == pytest.approx(golden["mean_ap"], abs=1e-9)
    for count in golden["counts"]:
        distance, *limit = count["args"]
        wanted = (count["tp"], count["fp"], count["gt"])
        assert match(forecasts, truth, count["cls"], distance, *limit).counts == wanted


@pytest.mark.parametrize("category", CATEGORIES)
def test_what_is_to_be_forecast_follows_from_the_tables(
    database: Database, golden_frames: list[Located], category: str
) -> None:
    """The same agents in the same order as from the golden arrays, filtered alike."""
    _, wanted = collect(database, category)
    frames = {located.frame.token: located for located in golden_frames}
    truths = [
        true_motions(frames[sample["token"]].scene, frames[sample["token"]].index, CATEGORIES[category])
        for sample in database.tables["sample"]
    ]
    for name in TrueMotions.__dataclass_fields__:
        joined = np.concatenate([getattr(truth, name) for truth in truths])
        if name == "path":
            np.testing.assert_allclose(joined, wanted.path, rtol=0, atol=1e-11)
        else:
            np.testing.assert_array_equal(joined, getattr(wanted, name), err_msg=name)


def test_forecasts_count_by_the_range_of_their_class() -> None:
    """40 m for bicycles, 50 m for cars; the limit itself is too far. What stands in a rack does not count."""
    rack = Thing(0, 20, 0, label=RACK)
    frame = frame_at(0, [rack])
    assert frame.objects is not None
    places = np.array([(39.9, 0, 1), (40, 0, 1), (49.9, 0, 1), (50, 0, 1), (20, 0.9, 1), (20, 1.1, 1), (20, 0.9, 1)])
    labels = ["bicycle", "bicycle", "car", "car", "motorcycle", "motorcycle", "car"]
    assert counts(frame, frame.objects, labels, places).tolist() == [True, False, True, False, False, True, True]


def test_a_test_set_has_nothing_to_be_forecast() -> None:
    scene = scene_with([frame_at(0, None)])
    assert true_motions(scene, 0, DETECTION_CATEGORIES) == Gap("frame0", "annotations")


def drive(agents: int = 20) -> tuple[Forecasts, TrueMotions]:
    """Cars ten metres apart that drive two metres a step, each forecast exactly by the second of two modes."""
    centre = np.stack((np.zeros(agents), np.arange(agents) * 10.0), -1)
    path = centre[:, None] + np.arange(1, 13)[:, None] * [2.0, 0.0]
    modes = np.stack((np.full_like(path, 99.0), path), 1)
    sample, label = np.zeros(agents), np.full(agents, "car")
    scores = np.linspace(0.9, 0.5, agents)
    return Forecasts(sample, label, centre, scores, modes), TrueMotions(
        sample, label, centre.copy(), path, np.full(agents, 12)
    )


def figures_of(forecasts: Forecasts, truth: TrueMotions) -> dict[str, Any]:
    figures: dict[str, Any] = motion_metrics(forecasts, truth, ["car"])["car"]
    return figures


def test_the_truth_is_perfect() -> None:
    figures = figures_of(*drive())
    assert figures["ap"] == pytest.approx({0.5: 1.0, 1.0: 1.0, 2.0: 1.0, 4.0: 1.0})
    assert [figures[name] for name in ERRORS] == [0, 0, 0]
    assert figures["epa"] == pytest.approx(1.0, abs=1e-6)


def test_paths_that_are_one_metre_off() -> None:
    """Every position, and so the last one; nothing is missed."""
    forecasts, truth = drive()
    figures = figures_of(replace(forecasts, path=forecasts.path + np.array([0.0, 1.0])), truth)
    assert [figures[name] for name in ERRORS] == [1, 1, 0]


def test_paths_that_leave_at_the_end() -> None:
    """Three metres at the last of twelve steps: a miss, a quarter of a metre on average, and no match for EPA."""
    forecasts, truth = drive()
    forecasts.path[:, :, -1, 1] += 3
    figures = figures_of(forecasts, truth)
    assert [figures[name] for name in ERRORS] == [0.25, 3, 1]
    assert figures["epa"] == 0


def test_boxes_that_are_one_metre_off_are_found_within_two_only() -> None:
    forecasts, truth = drive()
    figures = figures_of(replace(forecasts, centre=forecasts.centre + np.array([0.0, 1.0])), truth)
    assert figures["ap"] == pytest.approx({0.5: 0.0, 1.0: 0.0, 2.0: 1.0, 4.0: 1.0})


def test_a_forecast_of_nobody_costs_half_an_agent() -> None:
    forecasts, truth = drive()
    forecasts.centre[0] += 500
    assert figures_of(forecasts, truth)["epa"] == pytest.approx((19 - 0.5) / 20, abs=1e-6)


def test_agents_without_a_future_match_but_not_where_the_end_is_asked_for() -> None:
    forecasts, truth = drive()
    truth = replace(truth, steps=np.zeros(20, int))
    assert match(forecasts, truth, "car", 2.0).counts == (20, 0, 20)
    assert match(forecasts, truth, "car", 2.0, FINAL_METRES).counts == (0, 0, 0)


def test_an_agent_is_given_once_to_the_best_score() -> None:
    forecasts, truth = drive(1)
    twice = Forecasts(*(np.repeat(getattr(forecasts, name), 2, 0) for name in Forecasts.__dataclass_fields__))
    twice = replace(twice, score=np.array([0.2, 0.7]))
    assert match(twice, truth, "car", 2.0).found.tolist() == [True, False]


def test_errors_choose_their_mode_each_for_itself() -> None:
    """One mode is best on average, another at the end."""
    path = np.zeros((2, 2))
    modes = np.array([[[0.0, 0.0], [0.0, 1.5]], [[3.0, 0.0], [0.0, 0.5]]])
    assert path_errors(modes, path) == (0.75, 0.5, 0.0)


def test_nobody_there() -> None:
    forecasts, truth = drive()
    figures = motion_metrics(forecasts, truth, ["bus"])["bus"]
    assert (figures["ap"][2.0], figures["min_ade"], figures["epa"]) == (0.0, 1.0, 0.0)
