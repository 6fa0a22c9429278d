"""Tracking rule by rule, on small cases: track life, boxes and reports, memory, query interaction, ego motion."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from plugins.tracking.boxes import (
    Selection,
    best_detections,
    decode_boxes,
    decode_yaw,
    gather_reports,
    gravity_centers,
    select_reports,
)
from plugins.tracking.decoder import Detections
from plugins.tracking.lifecycle import Lifecycle, update_lifecycle
from plugins.tracking.memory_bank import MemoryBank
from plugins.tracking.model import Tracking
from plugins.tracking.query_interaction import QueryInteraction
from plugins.tracking.selection import best_rows, valid_first
from plugins.tracking.state import FREE_ID, LidarPose, Tracks, fresh_tracks, moved_reference
from toolkit.config.model import BevConfig, ModelConfig, TrackingConfig
from toolkit.nn.coordinates import inverse_sigmoid, to_metres, to_normalised

CONFIG = TrackingConfig(queries=4, track_capacity=8, max_reports=6, agent_capacity=2)
"""Rows 0-2 are free queries, row 3 is the ego, rows 4-7 carry objects."""
SMALL = ModelConfig(embed=16)


def ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


# Track life


def update(ids: Tensor, missed: Tensor, scores: list[float], next_id: int = 10) -> Lifecycle:
    return update_lifecycle(ids, missed, torch.tensor(scores), ints(next_id), CONFIG)


def test_births_take_consecutive_ids_in_row_order_and_never_the_ego() -> None:
    free = torch.full((8,), FREE_ID, dtype=torch.int32)
    life = update(free, torch.zeros_like(free), [0.4, 0.39, 0.9, 0.99, -1, -1, -1, -1])
    assert life.id.tolist() == [10, -1, 11, -1, -1, -1, -1, -1]
    assert life.active.tolist() == [True, False, True, False, False, False, False, False]
    assert life.next_id.tolist() == [12]


def test_a_miss_counts_below_the_keep_score_and_is_forgotten_above_the_birth_score() -> None:
    life = update(ints(-1, -1, -1, -1, 5, 6, 7, 8), ints(0, 0, 0, 0, 3, 3, 3, 0), [0, 0, 0, 0, 0.34, 0.37, 0.41, 0.36])
    assert life.missed.tolist() == [0, 0, 0, 0, 4, 3, 0, 0]
    assert life.id.tolist() == [-1, -1, -1, -1, 5, 6, 7, 8]
    assert life.active.tolist() == [False, False, False, False, False, True, True, True]


def test_a_track_dies_with_its_fifth_miss() -> None:
    ids, missed = ints(-1, -1, -1, -1, 5), ints(0, 0, 0, 0, 0)
    history = []
    for _ in range(5):
        ids, missed, active, next_id = update(ids, missed, [0, 0, 0, 0, 0.2])
        history.append(int(ids[4]))
        assert not active.any()
        assert next_id.tolist() == [10]
    assert history == [5, 5, 5, 5, FREE_ID]


# Boxes


@pytest.mark.parametrize(
    ("sine", "cosine", "degrees"),
    [(0, 1, 0), (1, 1, 45), (1, 0, 90), (1, -1, 135), (0, -1, 180),
     (-1, 1, -45), (-1, 0, -90), (-1, -1, -135), (0, 0, 0)],
)  # fmt: skip
def test_yaw_in_every_quadrant(sine: float, cosine: float, degrees: float) -> None:
    yaw = decode_yaw(torch.tensor([float(sine)]), torch.tensor([float(cosine)]))
    assert float(yaw) == pytest.approx(math.radians(degrees), abs=1e-6)


def test_decoded_box_keeps_the_bottom_and_the_gravity_center_adds_half_the_height() -> None:
    coded = torch.tensor([[1, 2, math.log(3), math.log(4), -5, math.log(6), 0, 1, 7, 8]])
    box = decode_boxes(coded)
    torch.testing.assert_close(box, torch.tensor([[1.0, 2, -5, 3, 4, 6, 0, 7, 8]]))
    torch.testing.assert_close(gravity_centers(box), torch.tensor([[1.0, 2, -2]]))


def boxes_at(*centers: tuple[float, float, float]) -> Tensor:
    """Coded boxes at (cx, cy, cz)."""
    boxes = torch.zeros(len(centers), 10)
    boxes[:, [0, 1, 4]] = torch.tensor(centers, dtype=torch.float32)
    return boxes


def select(boxes: Tensor, scores: list[float], active: list[bool]) -> Selection:
    return select_reports(boxes, torch.tensor(scores), torch.tensor(active), CONFIG)


def test_reports_are_sorted_by_score_and_filtered_by_range_afterwards() -> None:
    inside, outside = (61.2, -61.2, 10.0), (61.3, 0.0, 0.0)
    boxes = boxes_at(inside, inside, outside, inside, inside, (0, 0, -10.1), inside, inside)
    active = [False, True, True, False, True, True, True, False]
    selection = select(boxes, [0.9, 0.5, 0.8, 0.9, 0.7, 0.6, 0.4, 0.95], active)
    assert selection.row_count.tolist() == [3]
    assert selection.rows[:3].tolist() == [4, 1, 6]
    assert selection.active_count.tolist() == [5]
    # Rows 2, 4, 5, 1, 6 by score; counted among the active rows 1, 2, 4, 5, 6.
    assert selection.active_rank.tolist() == [1, 2, 3, 0, 4, 0]


def test_the_best_are_chosen_before_the_range_filter() -> None:
    """A box outside the range uses up one of the reports."""
    boxes = boxes_at((99, 0, 0), *[(0, 0, 0)] * 7)
    selection = select(boxes, [0.9, 0.8, 0.7, 0.6, 0.55, 0.5, 0.45, 0.4], [True] * 8)
    assert selection.row_count.tolist() == [5]
    assert selection.rows[:5].tolist() == [1, 2, 3, 4, 5]
    assert selection.active_count.tolist() == [6]


def test_without_active_tracks_only_the_ego_is_an_agent() -> None:
    selection = select(boxes_at(*[(0, 0, 0)] * 8), [0.3] * 8, [False] * 8)
    detections = Detections(
        torch.arange(8.0)[:, None], torch.rand(8, 3), boxes_at(*[(1, 2, 3)] * 8), torch.full((8,), 0.3), ints(*range(8))
    )
    reports, agents = gather_reports(selection, detections, ints(*[FREE_ID] * 8), CONFIG)
    assert selection.row_count.tolist() == selection.active_count.tolist() == [0]
    assert not any(x.any() for x in (*reports, selection.active_rank))
    assert agents.valid.tolist() == [False, False, True]
    assert agents.embedding.tolist() == [[0], [0], [3]]
    assert agents.label.tolist() == [0, 0, 3]
    assert agents.center.tolist() == [[0, 0, 0], [0, 0, 0], [1, 2, 3.5]]


def test_agents_beyond_the_capacity_are_reported_all_the_same() -> None:
    scores = torch.tensor([0.5, 0.9, 0.7, 0.1, 0.8, 0, 0, 0])
    boxes = boxes_at(*[(float(row), 0, 0) for row in range(8)])
    selection = select_reports(boxes, scores, scores > 0.4, CONFIG)
    reports, agents = gather_reports(
        selection, Detections(boxes, boxes, boxes, scores, ints(*range(8))), ints(*range(8)), CONFIG
    )
    assert reports.ids.tolist() == [1, 4, 2, 0, 0, 0]
    assert reports.scores[:4].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.5])
    assert not reports.boxes[4:].any()
    assert agents.center[:, 0].tolist() == [1, 4, 3]
    assert agents.valid.all()


def test_detections_are_the_best_rows_whether_they_carry_an_object_or_not() -> None:
    """The ego's row (3) too, and padding (7) whatever it holds not; a box outside the range (1) uses up a place."""
    boxes = boxes_at((0, 0, 0), (99, 0, 0), *[(float(row), 0, 0) for row in range(2, 8)])
    scores = torch.tensor([0.05, 0.9, 0.2, 0.8, 0.7, 0.01, 0.3, 0.95])
    detections = Detections(boxes, boxes, boxes, scores, ints(*range(8)))
    valid = torch.tensor([True] * 7 + [False])
    detected, detection_count = best_detections(detections, valid, CONFIG)
    assert detection_count.tolist() == [5]
    assert detected.labels.tolist() == [3, 4, 6, 2, 0, 0]
    assert detected.scores.tolist() == pytest.approx([0.8, 0.7, 0.3, 0.2, 0.05, 0])
    assert detected.boxes[:, 0].tolist() == [3, 4, 6, 2, 0, 0]
    assert detected.boxes[:5, 3:6].tolist() == [[1, 1, 1]] * 5
    assert not detected.boxes[5].any()


def test_fewer_rows_than_detections_are_all_detected() -> None:
    boxes = boxes_at(*[(float(row), 0, 0) for row in range(8)])
    detections = Detections(boxes, boxes, boxes, torch.zeros(8), ints(*range(8)))
    valid = torch.tensor([True] * 4 + [False] * 4)
    detected, detection_count = best_detections(detections, valid, CONFIG)
    assert detection_count.tolist() == [4]
    assert sorted(detected.labels[:4].tolist()) == [0, 1, 2, 3]


# Selection


def test_equal_scores_never_let_an_invalid_row_in() -> None:
    valid = torch.tensor([False, True, False, True, False, True, False, False])
    for scores in (torch.zeros(8), torch.ones(8)):
        assert set(best_rows(scores, valid, 5)[:3].tolist()) == {1, 3, 5}


def test_valid_rows_come_first_in_row_order() -> None:
    rows, valid = torch.tensor([7, 2, 9, 4]), torch.tensor([True, False, True, True])
    assert rows[valid_first(rows, valid)].tolist() == [4, 7, 9, 2]


# Memory bank


@pytest.fixture
def bank() -> MemoryBank:
    torch.manual_seed(0)
    return MemoryBank(SMALL).eval()


def remembering(*filled: int) -> Tracks:
    """Tracks with so many filled memory slots each; the empty slots hold values that must not count."""
    tracks = fresh_tracks(torch.randn(len(filled), 32), torch.zeros(len(filled), 3), 4)
    newest = torch.arange(4).flip(0)
    return tracks._replace(
        memory=torch.randn(len(filled), 4, 16),
        memory_padding=(newest >= torch.tensor(filled)[:, None]).int(),
    )


def test_memory_is_read_where_its_newest_slot_is_filled(bank: MemoryBank) -> None:
    tracks, embedding = remembering(0, 1, 2, 4), torch.randn(4, 16)
    recalled = bank.recall(embedding, tracks.memory, tracks.memory_padding)
    assert torch.equal(recalled[0], embedding[0])
    for row, filled in ((1, 1), (2, 2), (3, 4)):
        entries = tracks.memory[row, 4 - filled :]
        attended = bank.temporal_attn(embedding[row : row + 1], entries, entries)
        expected = bank.temporal_norm1(embedding[row : row + 1] + attended)
        expected = bank.temporal_norm2(expected + bank.temporal_fc2(bank.temporal_fc1(expected).relu()))
        torch.testing.assert_close(recalled[row : row + 1], expected)


def test_saving_drops_the_oldest_entry_and_starts_a_new_period(bank: MemoryBank) -> None:
    tracks = remembering(1, 4)
    embedding, saved = bank(tracks, torch.randn(2, 16), torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(saved.memory[:, -1], bank.save_proj(embedding))
    assert torch.equal(saved.memory[:, :3], tracks.memory[:, 1:])
    assert saved.memory_padding.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]
    assert saved.save_period.tolist() == [3, 3]


def test_a_continuing_track_saves_every_fourth_frame(bank: MemoryBank) -> None:
    tracks, periods, filled = remembering(0), [], []
    for _ in range(9):
        _, tracks = bank(tracks, torch.randn(1, 16), torch.tensor([0.5]))
        periods.append(int(tracks.save_period))
        filled.append(int((tracks.memory_padding == 0).sum()))
    assert periods == [3, 2, 1, 0, 3, 2, 1, 0, 3]
    assert filled == [1, 1, 1, 1, 2, 2, 2, 2, 3]


def test_nothing_is_saved_without_a_positive_score(bank: MemoryBank) -> None:
    tracks = remembering(1)
    _, kept = bank(tracks, torch.randn(1, 16), torch.zeros(1))
    assert torch.equal(kept.memory, tracks.memory)
    assert kept.save_period.tolist() == [0]


# Query interaction


def test_query_interaction_attends_among_valid_rows_only() -> None:
    torch.manual_seed(0)
    interaction = QueryInteraction(SMALL).eval()
    query, embedding = torch.randn(5, 32), torch.randn(5, 16)
    valid = torch.tensor([True, True, True, False, False])
    expected = interaction(query[:3], embedding[:3], valid[:3])
    torch.testing.assert_close(interaction(query, embedding, valid)[:3], expected)
    assert interaction(query, embedding, torch.zeros_like(valid)).isfinite().all()


# Ego motion


def test_references_follow_the_object_and_the_ego() -> None:
    """An object ahead drives on at 4 m/s for 0.5 s while the ego advances 3 m and turns left by 90 degrees."""
    bev = BevConfig()
    turn = torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # row vectors: x ahead becomes y
    previous = LidarPose(torch.tensor([1.0]), torch.eye(3), torch.tensor([1000.0, 500, 2]))
    current = LidarPose(torch.tensor([1.5]), turn, torch.tensor([1000.0, 503, 2]))
    tracks = fresh_tracks(torch.zeros(1, 32), inverse_sigmoid(to_normalised(torch.tensor([[0.0, 20, -1]]), bev)), 4)
    tracks = tracks._replace(box=torch.tensor([[0.0, 0, 0, 0, 0, 0, 0, 1, 0, 4]]))
    moved = to_metres(moved_reference(tracks.reference, tracks.box, previous, current, bev).sigmoid(), bev)
    torch.testing.assert_close(moved, torch.tensor([[19.0, 0]]), atol=1e-3, rtol=0)


def test_references_that_leave_the_range_stop_at_its_border() -> None:
    bev = BevConfig()
    pose = LidarPose(torch.zeros(1), torch.eye(3), torch.zeros(3))
    tracks = fresh_tracks(torch.zeros(1, 32), inverse_sigmoid(to_normalised(torch.tensor([[51.0, 0, 0]]), bev)), 4)
    tracks = tracks._replace(box=torch.tensor([[0.0, 0, 0, 0, 0, 0, 0, 1, 9, 0]]))
    moved = moved_reference(tracks.reference, tracks.box, pose, pose._replace(timestamp=torch.ones(1)), bev)
    torch.testing.assert_close(moved[:, 0], inverse_sigmoid(torch.ones(1)))


@pytest.mark.parametrize(
    "wrong", [{"track_capacity": 4}, {"max_reports": 9}, {"agent_capacity": 7}], ids=lambda wrong: next(iter(wrong))
)
def test_contradictory_capacities_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Tracking(replace(SMALL, tracking=replace(CONFIG, **wrong)))
