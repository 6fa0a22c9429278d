"""Losses of the tracks, for one decoder layer in one frame; all frames and layers of a clip are added up."""

from __future__ import annotations

import torch
from torch import Tensor

from plugins.tracking.boxes import encode_boxes
from plugins.tracking.matching import TrackMatches, TrackTruth
from toolkit.config.model import TrackingConfig
from toolkit.nn.losses import averaged, sigmoid_focal_loss

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
    rows, classes = logits.shape
    background = matches.ids.new_full((rows,), classes)
    found = matches.found_rows
    labels = background.index_copy(0, found, truth.labels[matches.objects[found]])
    with_ego = sigmoid_focal_loss(
        torch.cat((logits, _ego_row(logits, config))),
        torch.cat((labels, truth.ego_label)),
    )
    return CLASS_WEIGHT * averaged(with_ego.sum(), matches.carrying.sum() + 1)


def box_loss(boxes: Tensor, matches: TrackMatches, truth: TrackTruth, config: TrackingConfig) -> Tensor:
    """`loss_bbox`: distance of coded boxes [N, 10] from the found objects and of the ego's from its own, averaged."""
    found = matches.found_rows
    predicted = torch.cat((boxes[found], _ego_row(boxes, config)))
    true = torch.cat((truth.boxes[matches.objects[found]], truth.ego_box))
    distance, velocity = (predicted - encode_boxes(true)).abs().split((8, 2), -1)
    weighted = torch.cat((distance, VELOCITY_WEIGHT * velocity), -1)
    return BOX_WEIGHT * averaged(weighted.sum(), len(true))


def past_loss(paths: Tensor, matches: TrackMatches, truth: TrackTruth) -> Tensor:
    """`loss_past_trajs` of stage 2: mean distance along x and y (m) over the known steps of the found objects' paths.

    paths [N, T, 2]. Stage 1 weighs this by 0.
    """
    objects = matches.objects[matches.found_rows]
    mask = truth.past_mask[objects]
    distance = (paths[matches.found_rows] - truth.past[objects]).abs() * mask
    return distance.sum() / ((mask > 0).sum() + PAST_EPS)


def _ego_row(x: Tensor, config: TrackingConfig) -> Tensor:
    return x[config.queries - 1 : config.queries]
