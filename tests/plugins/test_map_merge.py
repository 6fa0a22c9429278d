"""The merge of map instances: the reference's frame 2, and small cases by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from plugins.map_segmentation.merge import claim_cells, merge_scores, postprocess
from plugins.map_segmentation.model import corners_in_cells, select_instances
from plugins.map_segmentation.plugin import SUBMODULE
from toolkit.config.model import BevConfig, MapConfig, ModelConfig

DIVIDER, CROSSING, BOUNDARY = range(3)


def test_reference_instances_merge_as_in_the_reference(intermediates: dict[str, np.ndarray]) -> None:
    """Exactly, from the reference's own class logits, boxes and mask scores."""
    scores, queries, labels = select_instances(torch.from_numpy(intermediates["seg.cls_logits_L1N3"])[-1, 0], 100)
    boxes = torch.from_numpy(intermediates["seg.box_coded_L1N4"])[-1, 0, queries]
    merged = postprocess(
        {
            "map_scores": scores.numpy(),
            "map_labels": labels.numpy(),
            "map_boxes": corners_in_cells(boxes, (50, 50)).numpy(),
            "map_mask_scores": intermediates["seg.mask_scores"],
        },
        ModelConfig(),
    )
    np.testing.assert_array_equal(merged["map_lanes"], intermediates["seg.lane"])
    np.testing.assert_array_equal(merged["map_lane_scores"], intermediates["seg.lane_score"])
    np.testing.assert_array_equal(merged["map_drivable"], intermediates["seg.drivable"])
    np.testing.assert_allclose(merged["map_merge_scores"], intermediates["seg.bbox"][:, 4], rtol=0, atol=1e-6)

    ordered = intermediates["seg.bbox"][:, 4] > 0  # the reference leaves the order of the others open
    np.testing.assert_array_equal(merged["map_instance_labels"][ordered], intermediates["seg.labels"][ordered])
    np.testing.assert_array_equal(merged["map_instance_masks"][ordered], intermediates["seg.seg_masks"][ordered])
    np.testing.assert_allclose(
        merged["map_instance_boxes"][ordered], intermediates["seg.bbox"][ordered, :4], rtol=0, atol=1e-4
    )


def test_map_from_the_bev(
    build_submodule: Callable[..., nn.Module], intermediates: dict[str, np.ndarray], noise: dict[str, float]
) -> None:
    """The whole submodule: a cell may differ only where a mask score is within the noise of its threshold."""
    outputs = build_submodule(SUBMODULE)(torch.from_numpy(intermediates["bev.enc2.out"]).squeeze(0))
    results = {spec.name: output.numpy() for spec, output in zip(SUBMODULE.outputs, outputs, strict=True)}
    merged = postprocess(results, ModelConfig())
    tolerance = 10 * noise["seg.mask_scores"]
    certain = (np.abs(intermediates["seg.mask_scores"] - 0.5) > tolerance).all(0)
    assert certain.mean() > 0.9
    np.testing.assert_array_equal(merged["map_lanes"][:, certain], intermediates["seg.lane"][:, certain])
    np.testing.assert_array_equal(merged["map_drivable"][certain], intermediates["seg.drivable"][certain])
    np.testing.assert_allclose(
        merged["map_lane_scores"][:, certain], intermediates["seg.lane_score"][:, certain], rtol=0, atol=tolerance
    )


def claim(*instances: tuple[float, int, str], threshold: float = 0.1) -> tuple[list[str], np.ndarray]:
    """Merge instances (merge score, label, mask over ten cells: '#' inside) in this order.

    Mask scores are 1.0, 1.1, 1.2 … by instance. Returns the lanes in the same notation and the lane scores.
    """
    scores, labels, patterns = zip(*instances, strict=True)
    masks = np.array([[[cell == "#" for cell in pattern]] for pattern in patterns])
    mask_scores = np.ones(masks.shape, np.float32) + 0.1 * np.arange(len(masks), dtype=np.float32)[:, None, None]
    order, given = np.arange(len(masks)), (np.array(scores, np.float32), np.array(labels, np.int32))
    lanes, lane_scores = claim_cells(order, *given, masks, mask_scores, MapConfig(score_threshold=threshold))
    return ["".join(".#"[int(cell)] for cell in lane[0]) for lane in lanes], lane_scores[:, 0]


def test_one_instance_claims_its_mask_with_its_mask_score() -> None:
    lanes, lane_scores = claim((0.5, CROSSING, "..###....."))
    assert lanes == ["..........", "..###.....", ".........."]
    np.testing.assert_array_equal(lane_scores[CROSSING], [0, 0, 1, 1, 1, 0, 0, 0, 0, 0])


def test_a_score_at_the_threshold_is_compared_in_its_own_type() -> None:
    """As where instances are listed: 0.7 in FP32 is less than 0.7."""
    lanes, _ = claim((0.7, CROSSING, "..###....."), threshold=0.7)
    assert lanes[CROSSING] == "..###....."


def test_second_claim_gets_the_free_cells_only() -> None:
    """Two of five cells are occupied, which is not more than the threshold."""
    lanes, lane_scores = claim((0.5, DIVIDER, "####......"), (0.4, BOUNDARY, "..#####..."))
    assert lanes == ["####......", "..........", "....###..."]
    np.testing.assert_allclose(lane_scores[BOUNDARY], [0, 0, 0, 0, 1.1, 1.1, 1.1, 0, 0, 0], rtol=1e-6)


def test_second_claim_of_the_same_class_extends_the_lane() -> None:
    lanes, lane_scores = claim((0.5, DIVIDER, "####......"), (0.4, DIVIDER, "..#####..."))
    assert lanes[DIVIDER] == "#######..."
    np.testing.assert_allclose(lane_scores[DIVIDER], [1, 1, 1, 1, 1.1, 1.1, 1.1, 0, 0, 0], rtol=1e-6)


def test_too_much_overlap_is_passed_over() -> None:
    lanes, _ = claim((0.5, DIVIDER, "####......"), (0.4, BOUNDARY, "..####...."), (0.3, CROSSING, "....##...."))
    assert lanes == ["####......", "....##....", ".........."]


def test_score_below_threshold_is_passed_over() -> None:
    lanes, _ = claim((0.1, DIVIDER, "##........"), (0.0999, BOUNDARY, "....##...."))
    assert lanes == ["##........", "..........", ".........."]


def test_empty_mask_claims_nothing() -> None:
    lanes, lane_scores = claim((0.5, DIVIDER, ".........."))
    assert lanes == [".........."] * 3
    assert not lane_scores.any()


def test_merge_score_divides_by_one_cell_more_than_the_area() -> None:
    mask_scores = np.array([[[0.6, 0.9, 0.4]], [[0.1, 0.2, 0.3]]], np.float32)
    merged = merge_scores(np.array([0.8, 0.9], np.float32), mask_scores, mask_scores > 0.5)
    assert merged.dtype == np.float32
    assert merged == pytest.approx([0.8 * (1.5 / 3) ** 2, 0])


def test_results_follow_the_merge_score_and_drivable_stands_apart() -> None:
    """The second instance has the better mask; the drivable area covers both without claiming a cell."""
    config = ModelConfig(bev=BevConfig(height=1, width=4), map=MapConfig(max_instances=2))
    merged = postprocess(
        {
            "map_scores": np.array([0.9, 0.8], np.float32),
            "map_labels": np.array([DIVIDER, BOUNDARY], np.int32),
            "map_boxes": np.array([[0, 0, 1, 1], [1, 0, 4, 1]], np.float32),
            "map_mask_scores": np.array([[[0.6, 0.6, 0, 0]], [[0, 0, 1, 1]], [[1, 1, 1, 0.5]]], np.float32),
        },
        config,
    )
    assert merged["map_instance_labels"].tolist() == [BOUNDARY, DIVIDER]
    assert merged["map_instance_boxes"].tolist() == [[1, 0, 4, 1], [0, 0, 1, 1]]
    assert merged["map_instance_masks"].tolist() == [[[False, False, True, True]], [[True, True, False, False]]]
    assert merged["map_merge_scores"] == pytest.approx([0.8 * (2 / 3) ** 2, 0.9 * (1.2 / 3) ** 2])
    assert merged["map_drivable"].tolist() == [[True, True, True, False]]
    assert merged["map_lanes"].sum() == 4


@pytest.mark.parametrize("odd", [[], [np.nan], [np.inf, -np.inf, 0.5]], ids=["finite", "NaN", "infinite"])
def test_any_map_merges_as_instances_one_after_the_other(odd: list[float]) -> None:
    """To the last bit, as a plain loop over instances does; masks of a few cells or many, some of them empty."""
    rng, config = np.random.default_rng(len(odd)), ModelConfig(bev=BevConfig(height=20, width=15))
    for sharpness in (1, 2, 4, 8):
        coarse = rng.random((101, 4, 3), np.float32) ** sharpness
        mask_scores = np.repeat(np.repeat(coarse, 5, 1), 5, 2) * 1.5
        mask_scores[rng.random(101) < 0.2] = 0
        if odd:
            mask_scores[rng.random(mask_scores.shape) < 0.002] = odd[0]
            mask_scores[rng.random(mask_scores.shape) < 0.002] = odd[-1]
        scores, labels = rng.random(100, np.float32), rng.integers(0, 3, 100).astype(np.int32)
        boxes = rng.random((100, 4), np.float32)
        results = {"map_scores": scores, "map_labels": labels, "map_boxes": boxes, "map_mask_scores": mask_scores}
        with np.errstate(invalid="ignore"):
            merged = postprocess(results, config)
            expected = merged_in_turn(scores, labels, mask_scores)
        for name, array in expected.items():
            np.testing.assert_array_equal(merged[name], array, strict=True)


def merged_in_turn(scores: np.ndarray, labels: np.ndarray, mask_scores: np.ndarray) -> dict[str, np.ndarray]:
    """The merge with the reference's constants, cell masks in place of integers."""
    masks = mask_scores[:-1] > 0.5
    sums = np.where(masks, mask_scores[:-1], np.float32(0)).sum((1, 2))
    merge_scores = scores * (sums / (masks.sum((1, 2)).astype(np.float32) + 1)) ** 2
    lanes, lane_scores = np.zeros((3, *masks.shape[1:]), np.bool_), np.zeros((3, *masks.shape[1:]), np.float32)
    occupied = np.zeros(masks.shape[1:], np.bool_)
    order = np.argsort(-merge_scores, kind="stable")
    for i in order:
        if merge_scores[i] < 0.1 or not masks[i].any() or (masks[i] & occupied).sum() > 0.4 * masks[i].sum():
            continue
        free = masks[i] & ~occupied
        lanes[labels[i]][free] = True
        lane_scores[labels[i]][free] = mask_scores[i][free]
        occupied |= masks[i]
    return {
        "map_lanes": lanes,
        "map_lane_scores": lane_scores,
        "map_drivable": mask_scores[-1] > 0.5,
        "map_merge_scores": merge_scores[order],
        "map_instance_labels": labels[order],
        "map_instance_masks": masks[order],
    }
