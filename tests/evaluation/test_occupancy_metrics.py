"""IoU and video panoptic quality, against the reference and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from plugins.occupancy.metrics import count_sample, occupancy_metrics
from tests.evaluation.conftest import Arrays

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
