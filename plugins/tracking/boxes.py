"""Decoded boxes, which of them are detections, which are reported, and the agents handed to the prediction heads."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from plugins.tracking.decoder import Detections
from plugins.tracking.selection import best_rows, count, first_valid, take, valid_first, where_valid
from toolkit.config.model import AngleFormula, TrackingConfig


def decode_yaw(sine: Tensor, cosine: Tensor, formula: AngleFormula = AngleFormula.ATAN) -> Tensor:
    """Angle in radians; 0 where both terms are 0. By atan and quadrant, it is off where the cosine is within 1e-8."""
    if formula is AngleFormula.ATAN2:
        return torch.atan2(sine, cosine)
    half_turn = torch.where(cosine < 0, torch.where(sine >= 0, math.pi, -math.pi), 0.0)
    yaw = torch.atan(sine / (cosine + 1e-8)) + half_turn
    return torch.where(cosine == 0, sine.sign() * (math.pi / 2), yaw)


def decode_boxes(coded: Tensor, formula: AngleFormula = AngleFormula.ATAN) -> Tensor:
    """Coded [N, 10] -> [N, 9]: cx, cy, cz, w, l, h (m), yaw (rad), vx, vy (m/s) in the LiDAR frame."""
    x, y, log_w, log_l, z, log_h, sine, cosine, vx, vy = coded.unbind(-1)
    size = log_w.exp(), log_l.exp(), log_h.exp()
    return torch.stack((x, y, z, *size, decode_yaw(sine, cosine, formula), vx, vy), -1)


def encode_boxes(boxes: Tensor) -> Tensor:
    """Boxes [N, 9] as `decode_boxes` gives them -> coded [N, 10]."""
    x, y, z, width, length, height, yaw, vx, vy = boxes.unbind(-1)
    return torch.stack((x, y, width.log(), length.log(), z, height.log(), yaw.sin(), yaw.cos(), vx, vy), -1)


def gravity_centers(boxes: Tensor) -> Tensor:
    """Boxes [N, 9] -> [N, 3]: the reported z is the bottom's, the centre lies half a height above."""
    return torch.cat((boxes[:, :2], boxes[:, 2:3] + boxes[:, 5:6] / 2), -1)


class Selection(NamedTuple):
    """The rows to report, best score first; R is the most that can be reported."""

    rows: Tensor
    """[R] int64, indices of the reported rows"""
    row_count: Tensor
    """[1] int32, how many of them are valid"""
    active_rank: Tensor
    """[R] int32, position among the active rows of each of the best, before the range filter"""
    active_count: Tensor
    """[1] int32, how many of `active_rank` are valid"""


def select_reports(box: Tensor, scores: Tensor, active: Tensor, config: TrackingConfig) -> Selection:
    """The best active rows, without those whose centre (x, y, bottom z) lies outside the range (bounds included).

    box [N, 10] coded, scores [N], active: bool [N].
    """
    reports = config.max_reports
    rows = best_rows(scores, active, reports)
    active_count = count(active).clamp(max=reports)
    is_active = first_valid(reports, active_count)
    active_rank = where_valid(is_active, take(active.cumsum(0, dtype=torch.int32), rows) - 1)

    return Selection(*in_range(box, rows, is_active, config), active_rank, active_count)


def in_range(box: Tensor, rows: Tensor, valid: Tensor, config: TrackingConfig) -> tuple[Tensor, Tensor]:
    """The valid ones of `rows` [R] whose centre (x, y, bottom z) lies in the range, bounds included, before the others.

    They keep their order. Also how many they are, [1] int32. box [N, 10] coded, valid: bool [R].
    """
    boxes = take(box, rows)
    center = torch.cat((boxes[:, :2], boxes[:, 4:5]), -1)
    low, high = center.new_tensor(config.report_range).chunk(2)
    inside = valid & (torch.minimum(center - low, high - center).amin(-1) >= 0)
    order = valid_first(torch.arange(len(rows), device=rows.device), inside)
    return take(rows, order), count(inside)


class DecodedRows(NamedTuple):
    """Boxes [R, 9], scores [R] and labels [R] of some rows; zero where not valid."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def decode_rows(detections: Detections, rows: Tensor, valid: Tensor, formula: AngleFormula) -> DecodedRows:
    """The rows of the given indices [R]; valid: bool [R]."""
    return DecodedRows(
        boxes=where_valid(valid, decode_boxes(take(detections.box, rows), formula)),
        scores=where_valid(valid, take(detections.score, rows)),
        labels=where_valid(valid, take(detections.label, rows)),
    )


def best_detections(
    detections: Detections, valid: Tensor, config: TrackingConfig, formula: AngleFormula = AngleFormula.ATAN
) -> tuple[DecodedRows, Tensor]:
    """What the frame shows, tracked or not, the ego's row included: the best of all valid rows (bool [N]), in range.

    As many rows as can be reported, best first; also how many of them are valid, [1] int32.
    """
    rows = best_rows(detections.score, valid, config.max_reports)
    rows, row_count = in_range(detections.box, rows, first_valid(config.max_reports, count(valid)), config)
    return decode_rows(detections, rows, first_valid(config.max_reports, row_count), formula), row_count


class Reports(NamedTuple):
    """Reported boxes [R, 9], scores [R], labels [R] and ids [R]; zero from the first invalid row on."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    ids: Tensor


class Agents(NamedTuple):
    """The first A reported objects and the ego as the last row; zero where not valid."""

    embedding: Tensor
    """[A + 1, C], from before the memory bank"""
    center: Tensor
    """[A + 1, 3], gravity centre in metres, LiDAR frame"""
    yaw: Tensor
    """[A + 1], radians"""
    label: Tensor
    """[A + 1] int32"""
    score: Tensor
    """[A + 1]"""
    valid: Tensor
    """[A + 1] bool, True for the ego"""


def gather_reports(
    selection: Selection,
    detections: Detections,
    ids: Tensor,
    config: TrackingConfig,
    formula: AngleFormula = AngleFormula.ATAN,
) -> tuple[Reports, Agents]:
    """The selected rows of the detections and ids [N], and the agents among them."""
    ego = selection.rows.new_tensor([config.queries - 1])
    rows = torch.cat((selection.rows, ego))
    valid = torch.cat((first_valid(config.max_reports, selection.row_count), ego >= 0))
    boxes, scores, labels = decode_rows(detections, rows, valid, formula)
    ids = where_valid(valid, take(ids, rows))

    agents = config.agent_capacity
    is_agent = with_last(valid, agents)
    agent_boxes = with_last(boxes, agents)
    return Reports(boxes[:-1], scores[:-1], labels[:-1], ids[:-1]), Agents(
        embedding=where_valid(is_agent, take(detections.embedding, with_last(rows, agents))),
        center=gravity_centers(agent_boxes),
        yaw=agent_boxes[:, 6],
        label=with_last(labels, agents),
        score=with_last(scores, agents),
        valid=is_agent,
    )


def with_last(x: Tensor, k: int) -> Tensor:
    """The first k rows and the last one."""
    return torch.cat((x[:k], x[-1:]))
