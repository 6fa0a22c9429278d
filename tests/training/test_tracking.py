"""Matching and losses of the tracks, on the reference's network outputs of a clip.

Of each frame the last decoder layer's classes and boxes are stored. So `loss_cls` and `loss_bbox` of layers 0 to 4 and
`loss_past_trajs` of all layers cannot be computed from them, nor which queries layers 0 to 4 match.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from plugins.tracking.boxes import decode_boxes, encode_boxes
from plugins.tracking.losses import box_loss, class_loss, past_loss
from plugins.tracking.matching import (
    EGO_ID,
    TrackMatches,
    TrackTruth,
    active_rows,
    match_tracks,
    nearest_upright,
    survives,
)
from plugins.tracking.state import FREE_ID
from tests.training.conftest import GoldenClip
from toolkit.config.model import TrackingConfig

CONFIG = TrackingConfig()
LAST_LAYER = 5


def truth_of(clip: GoldenClip, frame: int) -> TrackTruth:
    names = ("gt_bboxes_3d", "gt_labels_3d", "gt_inds", "gt_past_traj", "gt_past_traj_mask", "gt_sdc_bbox")
    return TrackTruth(*(clip.truth[f"{name}.{frame}"] for name in (*names, "gt_sdc_label")))


@dataclass(frozen=True)
class TrackedFrame:
    """What the last decoder layer gave in one frame of a clip, and our matches."""

    number: int
    truth: TrackTruth
    logits: Tensor
    boxes: Tensor
    matches: TrackMatches

    @property
    def scores(self) -> Tensor:
        return self.logits.sigmoid().amax(-1)


def tracked_frames(clip: GoldenClip) -> Iterator[TrackedFrame]:
    """The frames of a clip, oldest first: ids and overlaps go from each to the next as they do in training."""
    ids, overlap = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=clip.dtype)
    for number in range(len(clip.assignments["frames"])):
        ids = torch.cat((ids.new_full((CONFIG.queries,), FREE_ID), ids))
        overlap = torch.cat((overlap.new_zeros(CONFIG.queries), overlap))
        logits, boxes = (clip.outputs[f"frame{number}.pred_{name}_last_layer"] for name in ("logits", "boxes"))
        truth = truth_of(clip, number)
        [matches] = match_tracks(ids, overlap, logits[None], boxes[None], truth, CONFIG).layers()
        yield TrackedFrame(number, truth, logits, boxes, matches)
        ids, overlap = matches.ids[survives(matches)], matches.iou[survives(matches)]


def test_every_frame_matches_the_queries_that_the_reference_matches(clip: GoldenClip) -> None:
    golden = {match["frame"]: match["pairs"] for match in clip.assignments["matches"] if match["dec"] == LAST_LAYER}
    for frame in tracked_frames(clip):
        rows = frame.matches.carrying.nonzero().squeeze(1)
        assert torch.stack((rows, frame.matches.objects[rows]), 1).tolist() == sorted(golden[frame.number])
        assert torch.equal(frame.matches.ids, clip.outputs[f"frame{frame.number}.obj_ids"])


def test_overlaps_and_survivors_are_the_references(clip: GoldenClip) -> None:
    """Those of tracks whose object has disappeared included.

    Centres tens of metres away, stored in float32, leave 1e-5 of an overlap of objects as small as these.
    """
    for frame, golden in zip(tracked_frames(clip), clip.assignments["frames"], strict=True):
        assert len(frame.logits) == golden["num_queries"]
        tracks = golden["tracks"]
        rows = [track["query"] for track in tracks]
        assert frame.matches.iou[rows].tolist() == pytest.approx([track["iou"] for track in tracks], abs=1e-5)
        kept = [track["query"] for track in tracks if track["kept_by_qim"]]
        assert survives(frame.matches).nonzero().squeeze(1).tolist() == kept


def test_the_heads_that_follow_get_the_references_tracks(clip: GoldenClip) -> None:
    *_, last = tracked_frames(clip)
    rows = active_rows(last.matches, last.scores, last.boxes, CONFIG)
    golden = clip.assignments["active_last_frame"]
    assert last.matches.objects[rows].tolist() == golden["gt"]
    assert last.logits[rows].argmax(-1).tolist() == golden["labels_pred"]
    assert last.scores[rows].tolist() == pytest.approx(golden["scores"], abs=2e-6)


def test_losses_of_the_last_layer_are_the_references_in_every_frame(clip: GoldenClip) -> None:
    for frame in tracked_frames(clip):
        prefix = f"track.frame_{frame.number}_loss"
        clip.check(f"{prefix}_cls_{LAST_LAYER}", class_loss(frame.logits, frame.matches, frame.truth, CONFIG))
        clip.check(f"{prefix}_bbox_{LAST_LAYER}", box_loss(frame.boxes, frame.matches, frame.truth, CONFIG))


def test_the_last_class_branch_gets_the_references_gradient(clip: GoldenClip) -> None:
    """Nothing but `loss_cls` depends on its logits, so those of all frames give the gradient of its bias."""
    gradient = torch.zeros(10, dtype=clip.dtype)
    for frame in tracked_frames(clip):
        with torch.enable_grad():
            logits = frame.logits.clone().requires_grad_()
            class_loss(logits, frame.matches, frame.truth, CONFIG).backward()
        assert logits.grad is not None
        gradient += logits.grad.sum(0)
    clip.check_gradient("pts_bbox_head.cls_branches.5.6.bias", gradient)


SMALL = TrackingConfig(queries=3)
"""Two queries and the ego's row"""


def box(x: float, y: float, width: float = 2, length: float = 4, yaw: float = 0) -> Tensor:
    return torch.tensor([[x, y, 0, width, length, 1, yaw, 0, 0]])


def one_object(**changes: Tensor) -> TrackTruth:
    """A bicycle with the id 8, of whose path one step is known; the ego stands at the origin."""
    mask = torch.zeros(1, 2, 2)
    mask[0, 0] = 1
    label = torch.tensor([7])
    truth = TrackTruth(
        box(10, 0), label, torch.tensor([8]), torch.ones(1, 2, 2), mask, box(0, 0), torch.zeros_like(label)
    )
    return replace(truth, **changes)


def nothing() -> TrackTruth:
    empty = torch.empty(0, dtype=torch.int64)
    path = torch.empty(0, 2, 2)
    return one_object(boxes=torch.empty(0, 9), labels=empty, ids=empty, past=path, past_mask=path)


def match(ids: list[int], truth: TrackTruth, overlap: float = 0.7) -> TrackMatches:
    """Rows at x = 0, 10, 20, ... without an opinion on classes."""
    boxes = encode_boxes(torch.cat([box(10.0 * i, 0) for i in range(len(ids))]))
    entered = (torch.tensor(ids), torch.full((len(ids),), overlap))
    [matches] = match_tracks(*entered, torch.zeros(1, len(ids), 10), boxes[None], truth, SMALL).layers()
    return matches


def test_a_free_query_takes_what_is_near_and_its_id() -> None:
    matches = match([FREE_ID] * 3, one_object())
    assert matches.ids.tolist() == [FREE_ID, 8, EGO_ID]
    assert matches.objects.tolist() == [-1, 0, -1]
    assert matches.iou.tolist() == pytest.approx([0.7, 1.0, 0.7])


def test_every_layer_matches_on_its_own() -> None:
    """What an earlier one has found is nothing to the next."""
    first, second = (encode_boxes(torch.cat([box(x, 0) for x in places])) for places in ([50, 10, 0], [10, 50, 0]))
    entered = (torch.full((3,), FREE_ID), torch.zeros(3))
    boxes = torch.stack((first, second, first))
    matches = match_tracks(*entered, torch.zeros(3, 3, 10), boxes, one_object(), SMALL)
    assert matches.objects.tolist() == [[-1, 0, -1], [0, -1, -1], [-1, 0, -1]]
    assert matches.iou.tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]]


def test_a_carried_object_stays_with_its_query_however_far() -> None:
    """And nothing being new, no overlap is measured."""
    matches = match([FREE_ID, FREE_ID, FREE_ID, 8], one_object())
    assert matches.ids.tolist() == [FREE_ID, FREE_ID, EGO_ID, 8]
    assert matches.objects.tolist() == [-1, -1, -1, 0]
    assert matches.iou.tolist() == pytest.approx([0.7] * 4)


def test_an_object_that_disappears_leaves_its_track_with_the_overlap_it_had() -> None:
    matches = match([FREE_ID, FREE_ID, FREE_ID, 9], one_object())
    assert matches.objects.tolist() == [-1, 0, -1, -1]
    assert matches.iou[3].item() == pytest.approx(0.7)
    assert survives(matches).tolist() == [False, True, False, True]
    assert active_rows(matches, torch.ones(4), encode_boxes(box(0, 0)).repeat(4, 1), SMALL).tolist() == [1]


def test_tracks_may_be_carried_on_whatever_their_overlap() -> None:
    matches = dataclasses.replace(match([FREE_ID, FREE_ID, FREE_ID, 9], one_object()), iou=torch.zeros(4))
    assert not survives(matches).any()
    assert survives(matches, imprecise=True).tolist() == [False, True, False, True]


def test_what_lies_out_of_range_or_hardly_overlaps_is_not_handed_on() -> None:
    ids, objects = torch.tensor([1, 2, 3, 4]), torch.tensor([0, 1, 2, 3])
    matches = TrackMatches(ids, objects, torch.tensor([0.3, 0.9, 0.9, 0.29]))
    boxes = encode_boxes(torch.cat([box(0, 0), box(0, 61.1), box(-61.3, 0), box(0, 0)]))
    assert active_rows(matches, torch.tensor([0.1, 0.2, 0.3, 0.4]), boxes, SMALL).tolist() == [1, 0]


def test_a_frame_without_objects_costs_what_the_ego_and_the_background_cost() -> None:
    """Three rows of background and the ego as a car: 39 entries without and one with a class, each missed by a half."""
    truth = nothing()
    matches = match([FREE_ID] * 3, truth)
    assert not matches.found.any()
    assert active_rows(matches, torch.ones(3), torch.zeros(3, 10), SMALL).tolist() == []
    half = 0.25 * math.log(2)
    loss = class_loss(torch.zeros(3, 10), matches, truth, SMALL)
    assert loss.item() == pytest.approx(2 * half * (39 * 0.75 + 0.25))
    boxes = encode_boxes(box(1, 0)).repeat(3, 1)
    assert box_loss(boxes, matches, truth, SMALL).item() == pytest.approx(0.25)
    assert past_loss(torch.zeros(3, 2, 2), matches, truth).item() == 0


def test_paths_count_where_they_are_known_and_velocity_counts_a_fifth() -> None:
    truth = one_object()
    matches = match([FREE_ID] * 3, truth)
    paths = torch.zeros(3, 2, 2)
    paths[1] = torch.tensor([[2.0, 1.0], [50.0, 50.0]])
    assert past_loss(paths, matches, truth).item() == pytest.approx(0.5, rel=1e-5)
    boxes = encode_boxes(torch.cat((box(0, 0), box(10, 0), box(0, 0))))
    boxes[1, 8] = 1
    assert box_loss(boxes, matches, truth, SMALL).item() == pytest.approx(0.25 * 0.2 / 2)


def test_losses_pull_matched_rows_alone_towards_boxes_and_all_rows_towards_classes() -> None:
    truth = one_object()
    matches = match([FREE_ID] * 3, truth)
    with torch.enable_grad():
        logits = torch.zeros(3, 10, requires_grad=True)
        boxes = torch.zeros(3, 10, requires_grad=True)
        paths = torch.zeros(3, 2, 2, requires_grad=True)
        losses = (
            class_loss(logits, matches, truth, SMALL),
            box_loss(boxes, matches, truth, SMALL),
            past_loss(paths, matches, truth),
        )
        torch.stack(losses).sum().backward()
    assert logits.grad is not None
    assert boxes.grad is not None
    assert paths.grad is not None
    assert (logits.grad[1] < 0).nonzero().squeeze(1).tolist() == [7]
    assert (logits.grad[0] > 0).all()
    assert boxes.grad.any(1).tolist() == [False, True, True]
    assert paths.grad.flatten(1).any(1).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("yaw", "along_x"),
    [(0, False), (0.7, False), (0.9, True), (math.pi / 2, True), (-math.pi / 2, True), (2.5, False), (-3.1, False)],
)
def test_boxes_seen_from_above_are_turned_to_the_nearest_axis(yaw: float, along_x: bool) -> None:
    """At yaw 0 the length lies along y; the fold comes at odd multiples of 45 degrees."""
    (upright,) = nearest_upright(box(1, 2, 2, 4, yaw)).tolist()
    half_x, half_y = (2, 1) if along_x else (1, 2)
    assert upright == [1 - half_x, 2 - half_y, 1 + half_x, 2 + half_y]


def test_a_box_is_decoded_to_what_was_coded() -> None:
    boxes = torch.cat((box(3, -4, yaw=2), box(0, 1, yaw=-3), box(0, 1, yaw=0.5)))
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes)), boxes)
