"""The recurrent track rows: fresh queries, rows carried over from the previous frame, and their new references."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from custom_ops.inverse.op import inverse
from plugins.tracking.selection import take, where_valid
from toolkit.config.model import BevConfig
from toolkit.nn.coordinates import inverse_sigmoid, to_metres, to_normalised

FREE_ID = -1
CODED_BOX = 10


class Tracks(NamedTuple):
    """Track rows, in the order of the recurrent tensors.

    The queries come first and are the same in every frame (the last of them is the ego); rows that carry an
    object follow, padding last.
    """

    query: Tensor
    """[N, 2C], the positional and the content half"""
    reference: Tensor
    """[N, 3], logits of (x, y, z) normalised over the BEV range"""
    id: Tensor
    """[N] int32, -1 while the row carries no object"""
    matched: Tensor
    """[N] int32, passed through"""
    missed: Tensor
    """[N] int32, frames since the object was last seen"""
    iou: Tensor
    """[N], passed through"""
    score: Tensor
    """[N], passed through"""
    box: Tensor
    """[N, 10], coded: cx, cy, log w, log l, cz, log h, sin, cos, vx, vy in metres and m/s, LiDAR frame"""
    memory: Tensor
    """[N, M, C], past embeddings, oldest first"""
    memory_padding: Tensor
    """[N, M] int32, 1 for an empty slot"""
    save_period: Tensor
    """[N], frames until the next embedding is saved"""

    def take(self, rows: Tensor) -> Tracks:
        """The rows of the given indices."""
        return Tracks(*(take(x, rows) for x in self))

    def after(self, rows: int) -> Tracks:
        """All but the first rows."""
        return Tracks(*(x[rows:] for x in self))

    def zero_padding(self, valid: Tensor) -> Tracks:
        """These rows, zero where `valid` (bool [N]) is False."""
        return Tracks(*(where_valid(valid, x) for x in self))

    def append(self, other: Tracks) -> Tracks:
        """These rows, then the other's."""
        return Tracks(*(torch.cat(pair) for pair in zip(self, other, strict=True)))


class LidarPose(NamedTuple):
    """When and where the LiDAR is: seconds [1], LiDAR to global rotation [3, 3] (row vectors), translation [3] in m."""

    timestamp: Tensor
    rotation: Tensor
    translation: Tensor


def fresh_tracks(query: Tensor, reference: Tensor, memory_length: int) -> Tracks:
    """Rows that carry no object yet: learned query [N, 2C] and reference [N, 3], everything else empty."""
    rows, channels = len(query), query.shape[1] // 2
    zeros = query.new_zeros(rows)
    free = torch.full_like(zeros, FREE_ID, dtype=torch.int32)
    return Tracks(
        query=query,
        reference=reference,
        id=free,
        matched=free,
        missed=torch.zeros_like(free),
        iou=zeros,
        score=zeros,
        box=query.new_zeros(rows, CODED_BOX),
        memory=query.new_zeros(rows, memory_length, channels),
        memory_padding=free.new_ones(rows, memory_length),
        save_period=zeros,
    )


def moved_reference(reference: Tensor, box: Tensor, previous: LidarPose, current: LidarPose, bev: BevConfig) -> Tensor:
    """Reference logits (x, y) [N, 2] after the objects moved at constant velocity and the ego moved.

    reference [N, 3] and box [N, 10] as in `Tracks`.
    """
    position = to_metres(reference.sigmoid(), bev)
    travelled = box[:, 8:] * (current.timestamp - previous.timestamp)
    position = torch.cat((position[:, :2] + travelled, position[:, 2:]), -1)
    # The difference of the translations first: they are large compared with what FP32 should resolve.
    in_global_axes = position @ previous.rotation + (previous.translation - current.translation)
    moved = in_global_axes @ inverse(current.rotation)
    return inverse_sigmoid(to_normalised(moved[:, :2], bev))
