"""Matching and losses of the map, on the reference's network outputs of a clip.

Of the mask heads only the final masks are stored. So `loss_mask_things_f`, `loss_mask_stuff_f` and `loss_cls_stuff_f`
of the mask blocks cannot be computed from them.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from plugins.map_segmentation.losses import stuff_class_loss, stuff_mask_loss, thing_losses, thing_mask_loss
from plugins.map_segmentation.matching import (
    MapTruth,
    ThingMatches,
    centered,
    corners,
    match_masks,
    match_things,
    split_truth,
)
from tests.training.conftest import GoldenClip
from toolkit.config.model import MapConfig

THINGS = len(MapConfig().thing_classes)
LAST_LAYER = 5


def truth_of(clip: GoldenClip) -> MapTruth:
    labels, boxes, masks = (clip.truth[f"gt_lane_{name}"] for name in ("labels", "bboxes", "masks"))
    return split_truth(labels, boxes.to(clip.dtype), masks, THINGS)


def layer(clip: GoldenClip, number: int) -> tuple[Tensor, Tensor]:
    """Logits and boxes of one decoder layer."""
    return clip.outputs["map.all_cls_scores"][number, 0], clip.outputs["map.all_bbox_preds"][number, 0]


def final_masks(clip: GoldenClip, name: str) -> Tensor:
    return clip.outputs[f"map.{name}_mask_final"].view(-1, 50, 50)


def masks_match(clip: GoldenClip) -> ThingMatches:
    truth = truth_of(clip)
    logits, boxes = layer(clip, LAST_LAYER)
    rows = match_things(logits, boxes, truth).rows
    return match_masks(logits[rows], boxes[rows], final_masks(clip, "things"), truth)


def pairs(matches: ThingMatches) -> list[list[int]]:
    found: list[list[int]] = torch.stack((matches.rows, matches.things), 1).tolist()
    return found


def test_every_layer_matches_the_queries_that_the_reference_matches(clip: GoldenClip) -> None:
    golden = [*clip.assignments["map_assign"], clip.assignments["map_filter"][0]["first_round"]]
    truth = truth_of(clip)
    assert [pairs(match_things(*layer(clip, number), truth)) for number in range(LAST_LAYER + 1)] == golden
    assert pairs(masks_match(clip)) == clip.assignments["map_mask_assign"][0]


def test_classes_and_boxes_of_every_layer_cost_what_they_cost_the_reference(clip: GoldenClip) -> None:
    truth = truth_of(clip)
    for number in range(LAST_LAYER + 1):
        logits, boxes = layer(clip, number)
        losses = thing_losses(logits, boxes, match_things(logits, boxes, truth), truth)
        prefix = "map." if number == LAST_LAYER else f"map.d{number}."
        for name, loss in losses._asdict().items():
            clip.check(prefix + name, loss)


def test_final_masks_cost_what_they_cost_the_reference(clip: GoldenClip) -> None:
    truth = truth_of(clip)
    clip.check("map.loss_mask_things", thing_mask_loss(final_masks(clip, "things"), masks_match(clip), truth))
    clip.check("map.loss_mask_stuff", stuff_mask_loss(final_masks(clip, "stuff"), truth))


def test_branches_get_the_references_gradients(stage1_clip: GoldenClip) -> None:
    """References are detached between layers, so a layer's losses alone give the gradients of its branches' biases.

    Those of the boxes' reach the bias through a sigmoid.
    """
    truth = truth_of(stage1_clip)
    for number in (0, LAST_LAYER):
        with torch.enable_grad():
            logits, boxes = (output.clone().requires_grad_() for output in layer(stage1_clip, number))
            losses = thing_losses(logits, boxes, match_things(logits, boxes, truth), truth)
            torch.stack(losses).sum().backward()
        assert logits.grad is not None
        assert boxes.grad is not None
        given = {"cls_branches.0.bias": logits.grad.sum(0)} if number == 0 else {}
        given[f"reg_branches.{number}.4.bias"] = (boxes.grad * (boxes * (1 - boxes)).detach()).sum(0)
        for name, gradient in given.items():
            stage1_clip.check_gradient(f"seg_head.{name}", gradient)


def a_map() -> MapTruth:
    """On 4 x 4 cells: a divider on the left half, a crossing on the right, drivable everywhere."""
    left, everywhere = torch.zeros(4, 4), torch.ones(4, 4)
    left[:, :2] = 1
    boxes = torch.tensor([[0.0, 0, 2, 4], [2, 0, 4, 4], [0, 0, 4, 4]])
    return split_truth(torch.tensor([0, 1, 3]), boxes, torch.stack((left, 1 - left, everywhere)), THINGS)


def no_map() -> MapTruth:
    return split_truth(torch.empty(0, dtype=torch.int64), torch.empty(0, 4), torch.empty(0, 4, 4), THINGS)


LEFT, RIGHT = [0.25, 0.5, 0.5, 1], [0.75, 0.5, 0.5, 1]


def test_queries_are_matched_by_place_where_classes_tell_nothing() -> None:
    boxes = torch.tensor([RIGHT, [0.5, 0.5, 0.1, 0.1], LEFT])
    matches = match_things(torch.zeros(3, 3), boxes, a_map())
    assert pairs(matches) == [[0, 1], [2, 0]]
    losses = thing_losses(torch.zeros(3, 3), boxes, matches, a_map())
    assert losses.loss_bbox.item() == pytest.approx(0)
    assert losses.loss_iou.item() == pytest.approx(0)
    hits, others = 2 * 0.25, 7 * 0.75
    assert losses.loss_cls.item() == pytest.approx(2 / 3 * 2 * (hits + others) * 0.25 * math.log(2) / 2)


def test_masks_decide_between_queries_of_one_place() -> None:
    truth = a_map()
    boxes = torch.tensor([[0.5, 0.5, 1, 1]]).expand(2, 4)
    assert pairs(match_masks(torch.zeros(2, 3), boxes, truth.masks.flip(0), truth)) == [[0, 1], [1, 0]]


def test_masks_that_are_half_right() -> None:
    """All cells where half of them are meant: nearly 1 - 2 * 8 / (16 + 8); refined edges blur both."""
    truth = a_map()
    right = ThingMatches(torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert thing_mask_loss(truth.masks, right, truth).item() == pytest.approx(0, abs=1e-6)
    assert stuff_mask_loss(torch.ones(1, 4, 4), truth).item() == pytest.approx(0, abs=1e-6)
    everything = thing_mask_loss(torch.ones(2, 4, 4), right, truth).item()
    assert everything == pytest.approx(2 / 3 * 2 * (1 - 2 * 8 / (16 + 7.25)))


def test_stuff_is_told_to_be_there() -> None:
    """At logit 0: a third of the map, 4 times the focal loss of what is missed by a half."""
    loss = stuff_class_loss(torch.zeros(1, 1), a_map())
    assert loss.item() == pytest.approx(1 / 3 * 4 * 0.25 * 0.25 * math.log(2))


def test_a_map_without_elements_leaves_the_background() -> None:
    truth = no_map()
    boxes = torch.tensor([LEFT, RIGHT])
    matches = match_things(torch.zeros(2, 3), boxes, truth)
    assert pairs(matches) == []
    losses = thing_losses(torch.zeros(2, 3), boxes, matches, truth)
    assert losses.loss_cls.item() == pytest.approx(0.5 * 2 * 6 * 0.75 * 0.25 * math.log(2))
    assert losses.loss_bbox.item() == losses.loss_iou.item() == 0
    assert pairs(match_masks(torch.zeros(0, 3), boxes[:0], torch.zeros(0, 4, 4), truth)) == []
    assert thing_mask_loss(torch.zeros(0, 4, 4), matches, truth).item() == 0
    assert stuff_mask_loss(torch.ones(1, 4, 4), truth).item() == 0
    assert stuff_class_loss(torch.zeros(1, 1), truth).item() == 0


def test_only_matched_queries_learn_boxes_and_masks() -> None:
    truth = replace(a_map(), labels=torch.tensor([2, 1]))
    with torch.enable_grad():
        boxes = torch.tensor([RIGHT, [0.4, 0.5, 0.1, 0.1], [0.3, 0.5, 0.5, 0.9]], requires_grad=True)
        masks = torch.full((2, 4, 4), 0.5, requires_grad=True)
        matches = match_things(torch.zeros(3, 3), boxes, truth)
        losses = thing_losses(torch.zeros(3, 3), boxes, matches, truth)
        (losses.loss_bbox + losses.loss_iou).backward()
        thing_mask_loss(masks, ThingMatches(torch.tensor([1]), torch.tensor([0])), truth).backward()
    assert boxes.grad is not None
    assert masks.grad is not None
    assert not boxes.grad[1].any()
    assert boxes.grad[2].any()
    assert masks.grad.flatten(1).any(1).tolist() == [False, True]


def test_corners_and_centres_are_inverse() -> None:
    boxes = torch.tensor([LEFT, [0.2, 0.3, 0.1, 0.4]])
    torch.testing.assert_close(centered(corners(boxes)), boxes)
