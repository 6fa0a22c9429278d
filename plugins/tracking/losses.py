"""Losses of the tracks in one frame; all frames and decoder layers of a clip are added up.

Each is of one decoder layer, or of several at once: where rows have one more dimension in front, so does the loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from plugins.tracking.boxes import encode_boxes
from plugins.tracking.matching import TrackMatches, TrackTruth
from toolkit.config.model import TrackingConfig
from toolkit.nn.losses import averaged, chosen_rows, sigmoid_focal_loss

CLASS_WEIGHT = 2.0
BOX_WEIGHT = 0.25
VELOCITY_WEIGHT = 0.2
"""Of the coded box's last two entries; the others have 1."""
PAST_EPS = 1e-5


def class_loss(logits: Tensor, matches: TrackMatches, truth: TrackTruth, config: TrackingConfig) -> Tensor:
    """`loss_cls`: focal loss of all rows, logits [N, classes], over the number of rows that carry an object, and one.

    Rows without an object, or whose object has disappeared, are background. The ego's row counts twice, as background
    and as a car, as in the reference.
    """
    *layers, rows, classes = logits.shape
    found, objects = matches.pairs
    background = found.new_full((*layers, rows), classes)
    labels = background.scatter(-1, found, truth.labels[objects])
    with_ego = sigmoid_focal_loss(
        torch.cat((logits, _ego_row(logits, config)), -2),
        torch.cat((labels, truth.ego_label.expand(*layers, 1)), -1),
    )
    return CLASS_WEIGHT * averaged(with_ego.sum((-2, -1)), _number(matches.carrying) + 1)


def box_loss(boxes: Tensor, matches: TrackMatches, truth: TrackTruth, config: TrackingConfig) -> Tensor:
    """`loss_bbox`: distance of coded boxes [N, 10] from the found objects and of the ego's from its own, averaged."""
    found, objects = matches.pairs
    predicted = torch.cat((chosen_rows(boxes, found), _ego_row(boxes, config)), -2)
    true = encode_boxes(torch.cat((truth.boxes[objects], truth.ego_box.expand(*objects.shape[:-1], 1, -1)), -2))
    distance, velocity = (predicted - true).abs().split((8, 2), -1)
    total = distance.sum((-2, -1)) + VELOCITY_WEIGHT * velocity.sum((-2, -1))
    return BOX_WEIGHT * averaged(total, found.shape[-1] + 1)


def past_loss(paths: Tensor, matches: TrackMatches, truth: TrackTruth) -> Tensor:
    """`loss_past_trajs` of stage 2: mean distance along x and y (m) over the known steps of the found objects' paths.

    paths [N, T, 2]. Stage 1 weighs this by 0.
    """
    found, objects = matches.pairs
    mask = truth.past_mask.flatten(-2)[objects]
    distance = (chosen_rows(paths.flatten(-2), found) - truth.past.flatten(-2)[objects]).abs() * mask
    return distance.sum((-2, -1)) / ((mask > 0).sum((-2, -1)) + PAST_EPS)


def _ego_row(x: Tensor, config: TrackingConfig) -> Tensor:
    return x[..., config.queries - 1 : config.queries, :]


def _number(mask: Tensor) -> int:
    """Of rows in a mask [N] on the host; as many in each layer."""
    return int(mask.sum()) // mask.shape[:-1].numel()
