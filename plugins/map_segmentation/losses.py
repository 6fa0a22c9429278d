"""Losses of the map: classes and boxes of every decoder layer, masks and classes of every mask block.

Those of things are weighed by the share of things among the map's elements, those of stuff by the rest.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from plugins.map_segmentation.matching import (
    MapTruth,
    ThingMatches,
    centered,
    corners,
    stuff_count,
    thing_count,
)
from toolkit.nn.losses import averaged, chosen_rows, dice_loss, generalized_iou, sigmoid_focal_loss

CLASS_WEIGHT = 2.0
BOX_WEIGHT = 5.0
IOU_WEIGHT = 2.0
MASK_WEIGHT = 2.0
STUFF_CLASS_WEIGHT = 4.0
"""The reference counts the class of stuff twice."""
MASK_SCALE = 2
"""Masks are compared on a grid this many times finer."""


class ThingLosses(NamedTuple):
    """Of one decoder layer, under the reference's names."""

    loss_cls: Tensor
    loss_bbox: Tensor
    loss_iou: Tensor


def thing_losses(logits: Tensor, boxes: Tensor, matches: ThingMatches, truth: MapTruth) -> ThingLosses:
    """Focal loss of all queries, L1 and GIoU of the matched ones' boxes, each over the number of things.

    logits [Q, classes], normalised boxes [Q, 4] (cx, cy, w, h); of several layers with one more dimension in front,
    which the losses have too. GIoU is taken in cells.
    """
    *layers, queries, classes = logits.shape
    background = matches.rows.new_full((*layers, queries), classes)
    labels = background.scatter(-1, matches.rows, truth.labels[matches.things])
    predicted, true = chosen_rows(boxes, matches.rows), truth.boxes[matches.things]
    distance = (predicted - centered(true / truth.grid)).abs()
    apart = 1 - generalized_iou(corners(predicted) * truth.grid, true)

    totals = (
        CLASS_WEIGHT * sigmoid_focal_loss(logits, labels).sum((-2, -1)),
        BOX_WEIGHT * distance.sum((-2, -1)),
        IOU_WEIGHT * apart.sum(-1),
    )
    return ThingLosses(*(truth.thing_share * averaged(total, thing_count(truth)) for total in totals))


def thing_mask_loss(masks: Tensor, matches: ThingMatches, truth: MapTruth) -> Tensor:
    """`loss_mask_things` of masks [P, H, W], the last or those of a block, matched by `match_masks`.

    Or of several blocks' with one more dimension in front, which the loss has too.
    """
    total = mask_distance(masks.index_select(-3, matches.rows), truth.masks[matches.things]).sum(-1)
    return truth.thing_share * MASK_WEIGHT * averaged(total, thing_count(truth))


def stuff_mask_loss(masks: Tensor, truth: MapTruth) -> Tensor:
    """`loss_mask_stuff` of masks [kinds, H, W], the last or those of a block; kinds that are not there do not count.

    Or of several blocks', as in `thing_mask_loss`.
    """
    total = mask_distance(masks.index_select(-3, truth.stuff_labels), truth.stuff_masks).sum(-1)
    return (1 - truth.thing_share) * MASK_WEIGHT * averaged(total, stuff_count(truth))


def stuff_class_loss(logits: Tensor, truth: MapTruth) -> Tensor:
    """`loss_cls_stuff_f` of a mask block, or several: logits [kinds, 1] of whether the kind is there at all."""
    there = logits.index_select(-2, truth.stuff_labels)
    labels = truth.stuff_labels.new_zeros(there.shape[:-1])
    total = sigmoid_focal_loss(there, labels).sum((-2, -1))
    return (1 - truth.thing_share) * STUFF_CLASS_WEIGHT * averaged(total, stuff_count(truth))


def mask_distance(predicted: Tensor, true: Tensor) -> Tensor:
    """Dice loss [..., K] of masks [..., K, H, W], used as they are, without a sigmoid, and true ones [K, H, W]."""
    return dice_loss(_finer(predicted), _finer(true.to(predicted)))


def _finer(masks: Tensor) -> Tensor:
    """[..., H, W] -> [..., cells] of a finer grid."""
    if not masks.numel():  # interpolation knows no empty batches
        return masks.flatten(-2)
    shape = masks.shape[:-2]
    planes = masks.reshape(-1, 1, *masks.shape[-2:])
    finer = functional.interpolate(planes, scale_factor=MASK_SCALE, mode="bilinear", align_corners=False)
    return finer.view(*shape, -1)
