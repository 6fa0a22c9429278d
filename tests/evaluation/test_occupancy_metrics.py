"""IoU and video panoptic quality, against the reference and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from plugins.occupancy.evaluation import METRIC, consecutive, judge
from plugins.occupancy.metrics import count_sample, occupancy_metrics
from tests.evaluation.conftest import Arrays
from tests.evaluation.judging import figures_of, result_of, truth_of, verdict_on
from tests.evaluation.judging import judge as judged
from tests.evaluation.scenes import Thing, frame_at, scene_with
from toolkit.data.ground_truth import AnnotatedScene
from toolkit.runtime.results import FrameResult, OccupancyResult

WINDOWS = {"8x8": slice(17, 33), "25x25": slice(0, 50)}
WHOLE = (slice(None), slice(None))


@pytest.mark.parametrize("window", WINDOWS)
def test_figures_of_the_reference(golden_occupancy: Arrays, window: str) -> None:
    """The reference divides counts in FP32."""
    figures = occupancy_metrics(
        golden_occupancy["pred_instance"],
        golden_occupancy["gt_instance"],
        (WINDOWS[window], WINDOWS[window]),
        predicted_cells=golden_occupancy["pred_seg"],
        true_cells=golden_occupancy["gt_seg"],
    )
    for name, values in figures.items():
        np.testing.assert_allclose(values, golden_occupancy[f"{window}.{name}"], rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("window", WINDOWS)
def test_counts_of_the_reference(golden_occupancy: Arrays, window: str) -> None:
    samples = zip(golden_occupancy["pred_instance"], golden_occupancy["gt_instance"], strict=True)
    counts = [count_sample(*sample, (WINDOWS[window], WINDOWS[window])) for sample in samples]
    for name, ours in (("tp", "found"), ("fp", "invented"), ("fn", "missed")):
        expected = golden_occupancy[f"{window}.per_sample_{name}"]
        np.testing.assert_array_equal([getattr(count, ours) for count in counts], expected)


@pytest.mark.parametrize("window", WINDOWS)
def test_figures_without_consistency_over_time(golden_occupancy: Arrays, window: str) -> None:
    samples = zip(golden_occupancy["pred_instance"], golden_occupancy["gt_instance"], strict=True)
    first, *others = (count_sample(*sample, (WINDOWS[window], WINDOWS[window]), consistent=False) for sample in samples)
    figures = sum(others, start=first).figures()
    for name in ("pq", "sq", "rq"):
        expected = golden_occupancy[f"{window}.notemporal.{name}"]
        np.testing.assert_allclose(figures[name], expected, rtol=0, atol=1e-6)


def drive(columns: int) -> np.ndarray:
    """One vehicle of 4 x `columns` cells at five steps, number 3."""
    instances = np.zeros((5, 10, 10), np.uint8)
    instances[:, 2:6, :columns] = 3
    return instances


def test_the_truth_is_perfect() -> None:
    figures = occupancy_metrics(drive(4)[None], drive(4)[None], WHOLE)
    assert {name: values.tolist() for name, values in figures.items()} == {name: [1.0, 1.0] for name in figures}


def test_an_eroded_mask_costs_its_share() -> None:
    """Three of four columns: IoU 0.75, still matched."""
    figures = occupancy_metrics(drive(3)[None], drive(4)[None], WHOLE)
    assert [figures[name][1] for name in ("iou", "pq", "sq", "rq")] == [0.75, 0.75, 0.75, 1.0]


def test_half_of_a_vehicle_is_not_found() -> None:
    """An IoU of exactly one half is no match: one missed and one invented, at each of five steps."""
    counts = count_sample(drive(2), drive(4), WHOLE)
    assert (counts.found[1], counts.invented[1], counts.missed[1]) == (0, 5, 5)


def test_a_changed_number_costs_one_step() -> None:
    predicted = drive(4)
    predicted[3:][predicted[3:] == 3] = 7
    counts = count_sample(predicted, drive(4), WHOLE)
    assert (counts.found[1], counts.invented[1], counts.missed[1]) == (4, 1, 1)
    assert count_sample(predicted, drive(4), WHOLE, consistent=False).found[1] == 5


def test_samples_add_up() -> None:
    """Counts of shards, added, are those of one run."""
    one, other = count_sample(drive(3), drive(4), WHOLE), count_sample(drive(2), drive(4), WHOLE)
    both = occupancy_metrics(np.stack((drive(3), drive(2))), np.stack((drive(4), drive(4))), WHOLE)
    for name, values in (one + other).figures().items():
        np.testing.assert_array_equal(values, both[name])


def test_predictions_where_nothing_is_known_are_wrong() -> None:
    true = drive(4)
    cells = np.where(true > 0, 255, 0)
    counts = count_sample(drive(4), true, WHOLE, true_cells=cells)
    assert counts.cells_invented[1] == 5 * 16
    assert counts.cells_missed[1] == 0


def test_nothing_to_be_seen() -> None:
    empty = np.zeros((1, 5, 10, 10), np.uint8)
    figures = occupancy_metrics(empty, empty, WHOLE)
    assert [values.tolist() for values in figures.values()] == [[1.0, 0.0]] * 4


def space(cells: np.ndarray, instances: np.ndarray | None) -> OccupancyResult:
    """Occupancy of cells of half a metre."""
    half = cells.shape[-1] / 4
    return OccupancyResult(cells != 0, np.zeros(cells.shape, np.float32), 0.5, (-half, half), (-half, half), instances)


def test_the_metric_gives_the_figures_of_the_reference(golden_occupancy: Arrays) -> None:
    """In percent; "near" is the window of 8 m, "far" the whole grid of 25 m."""
    predicted, true, cells, true_cells = (
        golden_occupancy[name] for name in ("pred_instance", "gt_instance", "pred_seg", "gt_seg")
    )
    samples = [
        judge(space(cells[i], predicted[i].astype(np.int32)), true_cells[i], consecutive(true[i]))
        for i in range(len(cells))
    ]
    figures = figures_of(verdict_on(METRIC, samples))
    for name, window in (("near", "8x8"), ("far", "25x25")):
        for title, key in (("IoU", "iou"), ("VPQ", "pq"), ("SQ", "sq"), ("RQ", "rq")):
            wanted = 100 * golden_occupancy[f"{window}.{key}"][1]
            assert figures[f"{title}-{name}"] == pytest.approx(wanted, abs=1e-4), (title, name)


@pytest.mark.parametrize("number", range(8))
def test_numbers_of_the_reference(golden_occupancy: Arrays, number: int) -> None:
    true = golden_occupancy[f"post{number}.gt_instance"]
    np.testing.assert_array_equal(consecutive(true), golden_occupancy[f"post{number}.ins_seg_gt"])


def test_an_instance_whose_number_would_read_as_unknown_counts() -> None:
    assert consecutive(np.array([-20, 0, 255, 7])).tolist() == [1, 0, 0, 2]


@pytest.mark.parametrize(("size", "near"), [(50, slice(17, 33)), (200, slice(70, 130))])
def test_windows_of_both_models(size: int, near: slice) -> None:
    cells = np.zeros((5, size, size), np.uint8)
    cells[:, near, near] = 1
    sample = judge(space(cells, None), np.ones_like(cells), cells)
    assert sample.either[:, 0].tolist() == [(near.stop - near.start) ** 2, size**2]
    assert (sample.shared[0] == sample.either[0]).all()


def standing() -> AnnotatedScene:
    """A car 4 m to the left for nine key frames, of which three can be judged."""
    return scene_with([frame_at(0.5 * i, [Thing(0, 1, 4)]) for i in range(9)])


def results(scene: AnnotatedScene, *, instances: bool) -> list[FrameResult]:
    """Two columns of the car's five are missed: it covers 3 to 5 m to the left, 2 m behind to 2 m ahead, and a cell."""
    cells = np.zeros((5, 50, 50), np.int32)
    cells[:, 21:30, 15:18] = 1
    return [result_of(frame.token, occupancy=space(cells, cells if instances else None)) for frame in scene.frames]


def test_occupancy_of_a_scene() -> None:
    scene = standing()
    verdict, gaps = judged(METRIC, truth_of(scene), results(scene, instances=True))
    figures = figures_of(verdict)
    assert figures["IoU-far"] == figures["VPQ-far"] == 60
    assert figures["RQ-far"] == 100
    assert [gap.token for gap in gaps] == ["frame0", "frame0.5", "frame2.5", "frame3", "frame3.5", "frame4"]
    assert verdict.rankings[0].badness == pytest.approx({"frame1": 40.0, "frame1.5": 40.0, "frame2": 40.0})


def test_results_without_instances_are_judged_by_their_cells_alone() -> None:
    scene = standing()
    verdict, _ = judged(METRIC, truth_of(scene), results(scene, instances=False))
    assert figures_of(verdict)["IoU-far"] == 60
    assert np.isnan(figures_of(verdict)["VPQ-far"])
    assert verdict.notes == (
        "VPQ, SQ and RQ leave out 3 frames whose results hold no instances, as those of an older version; run the "
        "bundle again",
    )
