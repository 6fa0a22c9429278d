"""Which query is to find which object, in training: objects that are carried by their id, others at the least cost.

The scheme is MOTR's (Zeng et al. 2022, section 3.3): once a query has found an object it is asked for it in every frame
that follows, and whatever no query carries is given to those that are free.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from plugins.tracking.boxes import decode_boxes, encode_boxes, in_range
from plugins.tracking.state import FREE_ID
from toolkit.config.model import TrackingConfig
from toolkit.nn.losses import chosen_rows, focal_cost, iou, l1_cost, least_cost, on_host

EGO_ID = -2
"""Id of the ego's row: it is neither free nor does it carry an object."""
CLASS_COST = 2.0
BOX_COST = 0.25
COSTED_CODE = 8
"""Entries of the coded box that count for the cost: all but the velocity."""
ACTIVE_IOU = 0.3
"""Overlap from which on a track is handed to the heads that follow."""
SURVIVING_IOU = 0.5
"""Overlap above which a track is carried into the next frame."""


@dataclass(frozen=True)
class TrackTruth:
    """The G objects of a frame, and the ego among them."""

    boxes: Tensor
    """[G, 9], x, y, bottom z, w, l, h (m), yaw (rad), vx, vy (m/s) in the LiDAR frame"""
    labels: Tensor
    """[G] int64"""
    ids: Tensor
    """[G] int64, at least 0, the same for an object in all frames"""
    past: Tensor
    """[G, T, 2], steps of the object's path (m) as offsets from its centre, LiDAR axes"""
    past_mask: Tensor
    """[G, T, 2], above 0 where the step is known"""
    ego_box: Tensor
    """[1, 9]"""
    ego_label: Tensor
    """[1] int64"""


@dataclass(frozen=True)
class TrackMatches:
    """The N rows of a frame after matching, by one decoder layer or, with one more dimension in front, by L of them.

    What follows from it by counting and choosing is found on the host: on a GPU it would be dozens of tiny kernels.
    """

    ids: Tensor
    """[N] int64 on the host, the object that the row carries; -1 for free rows, -2 for the ego's"""
    objects: Tensor
    """[N] int64 on the host, that object's index in the frame; -1 without one, and where it has disappeared"""
    iou: Tensor
    """[N], overlap of the row's box with its object's, seen from above"""

    @property
    def carrying(self) -> Tensor:
        """[N] bool: rows that carry an object, be it one that has disappeared."""
        return self.ids >= 0

    @property
    def found(self) -> Tensor:
        """[N] bool: rows whose object is in the frame."""
        return self.objects >= 0

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """[F] int64 each: the rows whose object is in the frame, ascending, and these objects; as many in each layer.

        They go to where the overlaps are at once.
        """
        found = self.found
        rows, objects = found.nonzero()[:, -1], self.objects[found]
        shape = (*found.shape[:-1], len(rows) // found.shape[:-1].numel())
        rows, objects = torch.stack((rows, objects)).to(self.iou.device).unbind()
        return rows.view(shape), objects.view(shape)

    def layers(self) -> list[TrackMatches]:
        """Those of each layer."""
        return [TrackMatches(*each) for each in zip(self.ids, self.objects, self.iou, strict=True)]


@torch.no_grad()
def match_tracks(
    ids: Tensor, overlap: Tensor, logits: Tensor, boxes: Tensor, truth: TrackTruth, config: TrackingConfig
) -> TrackMatches:
    """Match N rows that entered the frame with ids [N] int64, on the host, and overlaps [N], after each of L layers.

    Of every layer: logits [L, N, classes], boxes [L, N, 10] coded. No layer's matches go by another's; all are computed
    at once. Overlaps are measured anew only in frames that bring objects which no row carries; those of objects that
    have disappeared stay what they were. The reference trains so.
    """
    layers = len(logits)
    ids = ids.clone()
    ids[config.queries - 1] = EGO_ID
    known = truth.ids.cpu()
    claims = ids[:, None] == known
    objects = torch.where(claims.any(1), (claims * torch.arange(len(known))).sum(1), -1)
    free = (ids == FREE_ID).nonzero().squeeze(1)
    unclaimed = (~claims.any(0)).nonzero().squeeze(1)
    if not len(unclaimed):
        return TrackMatches(*(each.expand(layers, -1) for each in (ids, objects, overlap)))

    # NumPy chooses by one thread. Those of torch wait for each other, longer than it takes where they lack cores.
    costs = on_host(track_cost(logits, boxes, truth.boxes, truth.labels)).numpy()
    rows, columns = least_cost(torch.from_numpy(costs[:, free.numpy()[:, None], unclaimed.numpy()]))
    taken, given = free[rows], unclaimed[columns]
    overlaps = overlap.repeat(layers, 1)
    all_ids = ids.repeat(layers, 1).scatter(1, taken, known[given])
    matches = TrackMatches(all_ids, objects.repeat(layers, 1).scatter(1, taken, given), overlaps)
    found, carried = matches.pairs
    found_boxes = nearest_upright(decode_boxes(chosen_rows(boxes, found)))
    overlaps.scatter_(1, found, iou(found_boxes, nearest_upright(truth.boxes)[carried]).to(overlaps))
    return matches


def track_cost(logits: Tensor, boxes: Tensor, true_boxes: Tensor, labels: Tensor) -> Tensor:
    """[..., N, G], of queries with logits [..., N, classes] and coded boxes [..., N, 10] for objects [G, 9]."""
    distance = l1_cost(boxes[..., :COSTED_CODE], encode_boxes(true_boxes)[:, :COSTED_CODE])
    return CLASS_COST * focal_cost(logits, labels) + BOX_COST * distance


def nearest_upright(boxes: Tensor) -> Tensor:
    """Boxes [..., 9] from above, turned to the nearest axis: [..., 4] (x1, y1, x2, y2) in metres."""
    x, y, _, width, length, _, yaw, *_ = boxes.unbind(-1)
    folded = yaw - math.pi * torch.floor(yaw / math.pi + 0.5)
    sideways = folded.abs() > math.pi / 4
    half = torch.stack((torch.where(sideways, length, width), torch.where(sideways, width, length)), -1) / 2
    center = torch.stack((x, y), -1)
    return torch.cat((center - half, center + half), -1)


def active_rows(matches: TrackMatches, scores: Tensor, boxes: Tensor, config: TrackingConfig) -> Tensor:
    """[A] int64: the rows that the heads after tracking are trained on, highest score first, the ego not among them.

    They have found their object in this frame, overlap it by 0.3 or more, and lie in the range of what is reported.
    scores [N], boxes [N, 10] coded.
    """
    rows = (matches.carrying & matches.found & (matches.iou >= ACTIVE_IOU)).nonzero().squeeze(1)
    rows = rows[scores[rows].argsort(descending=True, stable=True)]
    rows, inside = in_range(boxes, rows, torch.ones_like(rows, dtype=torch.bool), config)
    return rows[: int(inside)]


def survives(matches: TrackMatches, *, imprecise: bool = False) -> Tensor:
    """[N] bool: rows that are carried into the next frame, without the random part of training.

    Objects that have disappeared stay by the overlap they last had. `imprecise`: rows stay whatever their overlap.
    """
    return matches.carrying if imprecise else matches.carrying & (matches.iou > SURVIVING_IOU)
