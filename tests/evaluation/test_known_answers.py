"""The truth, given as results, is perfect; and each planted error moves its metric by as much as is worked out here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")

from benchmarks.ideal_results import ideal_results
from plugins.map_segmentation.evaluation import METRIC as MAP
from plugins.motion.evaluation import METRIC as MOTION
from plugins.motion.judged import true_motions
from plugins.motion.metrics import TrueMotions
from plugins.occupancy.evaluation import METRIC as OCCUPANCY
from plugins.planning.evaluation import METRIC as PLANNING
from plugins.tracking.evaluation import DETECTION, TRACKING
from tests.evaluation.judging import figures_of, judge, truth_of
from tests.evaluation.scenes import Thing, frame_at, scene_with
from toolkit.data.ground_truth import GroundTruth
from toolkit.data.plugin import uniad_frame_sources
from toolkit.data.sources import open_ground_truth
from toolkit.evaluation.metric import Metric
from toolkit.runtime.result_reader import read_result
from toolkit.runtime.result_writer import write_result
from toolkit.runtime.results import FrameResult
from toolkit.synthetic.dataset import DriveSettings, synthesize

pytestmark = pytest.mark.slow

KEY_FRAMES = 12
"""Of each of the two scenes: of a driven path six key frames lack a part."""
ROUNDING = 1e-4
"""Results are in FP32, of up to a hundred metres; figures in metres and percent."""
Change = Callable[[FrameResult], FrameResult]


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> GroundTruth:
    folder = tmp_path_factory.mktemp("drive") / "dataroot"
    list(synthesize(folder, DriveSettings(scenes=2, keyframes=KEY_FRAMES, image_scale=0.05)))
    return open_ground_truth(f"nuscenes:{folder}", uniad_frame_sources())


@pytest.fixture(scope="module")
def ideal(drive: GroundTruth) -> list[FrameResult]:
    return list(ideal_results(drive))


def figures(metric: Metric, truth: GroundTruth, results: Sequence[FrameResult], change: Change) -> dict[str, float]:
    """What the metric says of changed results, but for what does not occur."""
    found = figures_of(judge(metric, truth, [change(result) for result in results])[0])
    return {name: value for name, value in found.items() if not np.isnan(value)}


def unchanged(result: FrameResult) -> FrameResult:
    return result


def near(value: float) -> object:
    return pytest.approx(value, abs=ROUNDING)


def test_the_truth_plans_perfectly(drive: GroundTruth, ideal: list[FrameResult]) -> None:
    found = figures(PLANNING, drive, ideal, unchanged)
    assert found == {name: near(0) for name in found}
    assert {"L2@3s", "obj_col@3s", "obj_box_col@avg", "ST-P3/L2@avg"} <= found.keys()


def test_the_truth_forecasts_occupancy_perfectly(drive: GroundTruth, ideal: list[FrameResult]) -> None:
    found = figures(OCCUPANCY, drive, ideal, unchanged)
    assert found == {name: near(100) for name in found}
    assert {"IoU-far", "VPQ-far", "SQ-far", "RQ-far"} <= found.keys()


def test_the_truth_sees_the_map_perfectly(drive: GroundTruth, ideal: list[FrameResult]) -> None:
    found = figures(MAP, drive, ideal, unchanged)
    assert found == {name: near(100) for name in found}
    assert {"IoU-drivable", "IoU-lanes", "IoU-contour"} <= found.keys()


def test_the_truth_forecasts_motions_perfectly(drive: GroundTruth, ideal: list[FrameResult]) -> None:
    """All are found, at no distance, where each class is judged for itself: a submission of tracks holds no
    construction vehicles, which are missed where every vehicle counts as a car. For EPA those are found that have a
    future.
    """
    found = figures(MOTION, drive, ideal, unchanged)
    for name in ("minADE/car", "minFDE/car", "MR/car", "epa/minADE/pedestrian", "ten-classes/motion-map/minFDE/car"):
        assert found[name] == near(0), name
    for name in ("AP/pedestrian", "ten-classes/AP/car", "ten-classes/AP/bicycle"):
        assert found[name] == pytest.approx(1), name
    motions = [true_motions(s, i, {"pedestrian": "pedestrian"}) for s in drive.scenes for i in range(KEY_FRAMES)]
    known = np.concatenate([each.steps > 0 for each in motions if isinstance(each, TrueMotions)])
    assert 0.8 < known.mean() < 1
    assert found["EPA/pedestrian"] == near(known.mean())


def test_the_truth_is_detected_and_tracked_perfectly(drive: GroundTruth, ideal: list[FrameResult]) -> None:
    """Each class that there is; nuScenes takes an AP of 0 for the others, and samples recalls and scores."""
    found = figures(DETECTION, drive, ideal, unchanged)
    present = {name.partition("/")[2] for name in found if name.startswith("AP/") and found[name] > 0}
    assert {"car", "pedestrian", "bicycle"} <= present
    for label in present:
        assert found[f"AP/{label}"] > 0.98
        assert found[f"ATE/{label}"] == near(0)
    tracked = figures(TRACKING, drive, ideal, unchanged)
    assert (tracked["AMOTA/car"], tracked["MOTA/car"]) == (1, 1)
    assert (tracked["ids"], tracked["fp"], tracked["fn"]) == (0, 0, 0)


def test_the_truth_can_be_written_and_read(drive: GroundTruth, ideal: list[FrameResult], tmp_path: Path) -> None:
    """To the micrometre."""
    read = [read_result(write_result(result, tmp_path)) for result in ideal]
    assert figures(PLANNING, drive, read, unchanged)["L2@3s"] == near(0)
    assert figures(OCCUPANCY, drive, read, unchanged)["VPQ-far"] == near(100)
    assert figures(MOTION, drive, read, unchanged)["minADE/car"] == near(0)
    assert figures(MAP, drive, read, unchanged)["IoU-lanes"] == near(100)


def test_a_plan_that_is_three_and_four_metres_off(drive: GroundTruth, ideal: list[FrameResult]) -> None:
    """Five metres wherever the driven path is known: at the first step in 11 of 12 samples, at the sixth in 6. The
    protocol of ST-P3 takes samples alone that have all six.
    """

    def shifted(result: FrameResult) -> FrameResult:
        assert result.plan is not None
        return replace(result, plan=replace(result.plan, points=result.plan.points + np.array([3, 4], np.float32)))

    found = figures(PLANNING, drive, ideal, shifted)
    at_steps = [found[f"L2@{second}s"] for second in ("0.5", "1", "1.5", "2", "2.5", "3")]
    assert at_steps == [near(5 * known / 12) for known in (11, 10, 9, 8, 7, 6)]
    assert found["L2@avg"] == near(5 * 8 / 12)
    assert [found[f"ST-P3/L2@{second}"] for second in ("1s", "2s", "3s", "avg")] == [near(5)] * 4


def test_a_plan_into_a_car() -> None:
    """The vehicle drives 2 m a step for 14 key frames and plans 5 m to the left of that, where a car stands, 18 to 22 m
    ahead of the first LiDAR. At key frame i the car fills rows 61 - 4 i to 69 - 4 i, from i = 3 on inside of the grid
    of 50; the footprint at step k fills rows 22 + 4 k to 29 + 4 k. They meet where i + k is 8 to 11: in 4 samples at
    each step, but in 3 at the sixth, for which i = 2 is too early. The plan's point lies in row 24 + 4 k, and so in the
    car where i + k is 10 or 11: in 2 samples.
    """
    scene = scene_with([frame_at(0.5 * i, [Thing(0, x=1.0 + 20.0, y=5.0)], x=2.0 * i) for i in range(14)])
    truth = truth_of(scene)
    results = list(ideal_results(truth))

    def beside(result: FrameResult) -> FrameResult:
        assert result.plan is not None
        return replace(result, plan=replace(result.plan, points=result.plan.points - np.array([5, 0], np.float32)))

    assert figures(PLANNING, truth, results, unchanged)["obj_box_col@3s"] == 0
    found = figures(PLANNING, truth, results, beside)
    seconds = ("0.5", "1", "1.5", "2", "2.5", "3")
    assert [found[f"obj_box_col@{second}s"] for second in seconds] == [near(100 * n / 14) for n in (4, 4, 4, 4, 4, 3)]
    assert [found[f"obj_col@{second}s"] for second in seconds] == [near(100 * 2 / 14)] * 6


def test_a_vehicle_of_another_number_from_the_fourth_step_on(drive: GroundTruth, ideal: list[FrameResult]) -> None:
    """Each that was found before and is found after costs one step: as if it were missed there, and another invented.
    Of F that are found S are lost, and VPQ is (F - S) / (F - S + S / 2 + S / 2).
    """

    def switched(result: FrameResult) -> FrameResult:
        space = result.occupancy
        assert space is not None
        assert space.instances is not None
        instances = space.instances.copy()
        instances[3:][instances[3:] > 0] += 1000
        return replace(result, occupancy=replace(space, instances=instances))

    judged = [result for result in ideal if 2 <= int(result.frame.partition("_")[0]) < KEY_FRAMES - 4]
    steps = [[set(np.unique(grid)) - {0} for grid in instances_of(result)] for result in judged]
    found = sum(len(numbers) for sample in steps for numbers in sample)
    lost = sum(len(set.union(*sample[:3]) & set.union(*sample[3:])) for sample in steps)
    assert lost > 10
    moved = figures(OCCUPANCY, drive, ideal, switched)
    assert moved["VPQ-far"] == moved["RQ-far"] == near(100 * (found - lost) / found)
    assert (moved["SQ-far"], moved["IoU-far"]) == (near(100), near(100))


def instances_of(result: FrameResult) -> np.ndarray:
    assert result.occupancy is not None
    assert result.occupancy.instances is not None
    return result.occupancy.instances


def test_occupancy_that_is_eroded(drive: GroundTruth, ideal: list[FrameResult]) -> None:
    """Everything behind the LiDAR is missed: IoU is the share of the cells ahead."""

    def eroded(result: FrameResult) -> FrameResult:
        assert result.occupancy is not None
        cells = result.occupancy.cells.copy()
        cells[:, :25] = False
        return replace(result, occupancy=replace(result.occupancy, cells=cells))

    judged = [result for result in ideal if 2 <= int(result.frame.partition("_")[0]) < KEY_FRAMES - 4]
    cells = np.stack([instances_of(result) > 0 for result in judged])
    share = np.count_nonzero(cells[:, :, 25:]) / np.count_nonzero(cells)
    assert 0.1 < share < 0.9
    assert figures(OCCUPANCY, drive, ideal, eroded)["IoU-far"] == near(100 * share)


def test_a_map_that_is_eroded(drive: GroundTruth, ideal: list[FrameResult]) -> None:
    """The drivable area loses its left half; lines, of which nothing is lost, stay perfect."""

    def eroded(result: FrameResult) -> FrameResult:
        assert result.map is not None
        drivable = result.map.drivable.copy()
        drivable[:, :25] = False
        return replace(result, map=replace(result.map, drivable=drivable))

    area = np.stack([result.map.drivable for result in ideal if result.map is not None])
    found = figures(MAP, drive, ideal, eroded)
    assert found["IoU-drivable"] == near(100 * np.count_nonzero(area[..., 25:]) / np.count_nonzero(area))
    assert found["IoU-lanes"] == near(100)


def test_boxes_that_are_one_metre_off(drive: GroundTruth, ideal: list[FrameResult]) -> None:
    """Found within 2 and 4 m, and not within 0.5 and 1: half the precision. Their forecasts, which went along, are a
    metre off at each step; those of the last frame, who have no future, are not given.
    """

    def moved(result: FrameResult) -> FrameResult:
        boxes = []
        for box in result.boxes:
            assert box.motion is not None
            motion = replace(box.motion, trajectories=box.motion.trajectories + np.array([1.001, 0], np.float32))
            x, y, z = box.center
            boxes.append(replace(box, center=(x + 1.001, y, z), motion=motion))
        last = result.frame.startswith(f"{KEY_FRAMES - 1:05d}")
        return replace(result, boxes=() if last else tuple(boxes))

    found = figures(MOTION, drive, ideal, moved)
    assert found["minADE/car"] == pytest.approx(1.001, abs=1e-3)
    assert found["motion-map/AP/car"] == 0
    assert found["MR/car"] == 0


def test_forecasts_that_are_three_metres_off(drive: GroundTruth, ideal: list[FrameResult]) -> None:
    """At every step and in all modes: misses all of them, and no match where the end must be near."""

    def off(result: FrameResult) -> FrameResult:
        boxes = []
        for box in result.boxes:
            assert box.motion is not None
            motion = replace(box.motion, trajectories=box.motion.trajectories + np.array([0, 3], np.float32))
            boxes.append(replace(box, motion=motion))
        last = result.frame.startswith(f"{KEY_FRAMES - 1:05d}")
        return replace(result, boxes=() if last else tuple(boxes))

    found = figures(MOTION, drive, ideal, off)
    assert (found["minADE/car"], found["minFDE/car"], found["MR/car"]) == (near(3), near(3), near(1))
    assert found["EPA/car"] == 0
    assert found["motion-map/AP/car"] == 0
