"""Which query is to find which element of the map, in training (Panoptic SegFormer; Li et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from toolkit.nn.losses import dice_loss, focal_cost, generalized_iou, hungarian, l1_cost

CLASS_COST = 2.0
BOX_COST = 5.0
IOU_COST = 2.0
MASK_CLASS_COST = 4.0
"""The reference counts classes twice where masks are assigned."""
MASK_COST = 2.0
MASK_COST_EPS = 1e-3


@dataclass(frozen=True)
class MapTruth:
    """The map around the ego: P things, whose instances are told apart, and S kinds of stuff, on a grid of H x W."""

    labels: Tensor
    """[P] int64, class among the things"""
    boxes: Tensor
    """[P, 4], (x0, y0, x1, y1) in cells"""
    masks: Tensor
    """[P, H, W], 0 or 1"""
    stuff_labels: Tensor
    """[S] int64, class among the stuff"""
    stuff_masks: Tensor
    """[S, H, W], 0 or 1"""

    @property
    def thing_share(self) -> float:
        """Of all elements; each kind counts as at least one."""
        return thing_count(self) / (thing_count(self) + stuff_count(self))

    @cached_property
    def grid(self) -> Tensor:
        """[4], what normalised boxes are multiplied with to be in cells."""
        height, width = self.masks.shape[-2:]
        return self.boxes.new_tensor([width, height, width, height])


def thing_count(truth: MapTruth) -> int:
    return max(len(truth.labels), 1)


def stuff_count(truth: MapTruth) -> int:
    return max(len(truth.stuff_labels), 1)


def split_truth(labels: Tensor, boxes: Tensor, masks: Tensor, things: int) -> MapTruth:
    """The elements of a map as data sets have them: labels [K] of things before those of stuff, boxes, masks."""
    is_thing = labels.cpu() < things
    thing, stuff = (mask.nonzero().squeeze(1).to(labels.device) for mask in (is_thing, ~is_thing))
    return MapTruth(labels[thing], boxes[thing], masks[thing], labels[stuff] - things, masks[stuff])


@dataclass(frozen=True)
class ThingMatches:
    """Rows that have a thing to find, ascending, and these things' indices: [P] int64 each.

    Of several decoder layers they have one more dimension in front.
    """

    rows: Tensor
    things: Tensor


@torch.no_grad()
def match_things(logits: Tensor, boxes: Tensor, truth: MapTruth) -> ThingMatches:
    """Match the queries of a decoder layer: logits [Q, classes], normalised boxes [Q, 4] (cx, cy, w, h).

    Or those of several with one more dimension in front, each on its own.
    """
    return ThingMatches(*hungarian(thing_cost(logits, boxes, truth, CLASS_COST)))


@torch.no_grad()
def match_masks(logits: Tensor, boxes: Tensor, masks: Tensor, truth: MapTruth) -> ThingMatches:
    """Match the queries that the last layer has matched once more, by their masks [P, H, W] too.

    logits [P, classes] and boxes [P, 4] are theirs; the rows of the result count among these P.
    """
    overlap = dice_loss(masks.flatten(1)[:, None], truth.masks.flatten(1).to(masks), MASK_COST_EPS)
    return ThingMatches(*hungarian(thing_cost(logits, boxes, truth, MASK_CLASS_COST) + MASK_COST * overlap))


def thing_cost(logits: Tensor, boxes: Tensor, truth: MapTruth, class_cost: float) -> Tensor:
    """[..., Q, P], of all queries for all things, by class and box."""
    distance = l1_cost(boxes, centered(truth.boxes / truth.grid))
    overlap = generalized_iou((corners(boxes) * truth.grid)[..., None, :], truth.boxes)
    return class_cost * focal_cost(logits, truth.labels) + BOX_COST * distance - IOU_COST * overlap


def corners(boxes: Tensor) -> Tensor:
    """[..., 4], (cx, cy, w, h) -> (x0, y0, x1, y1)."""
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((center - half, center + half), -1)


def centered(boxes: Tensor) -> Tensor:
    """[..., 4], (x0, y0, x1, y1) -> (cx, cy, w, h)."""
    low, high = boxes.chunk(2, -1)
    return torch.cat(((low + high) / 2, high - low), -1)
