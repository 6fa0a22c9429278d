"""How tracking is trained: tracks live as long as their objects do, and every decoder layer is supervised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from plugins.tracking.boxes import decode_boxes, gravity_centers
from plugins.tracking.decoder import PAST_STEPS, DetectionHead, TrackDecoder
from plugins.tracking.ground_truth import track_truth
from plugins.tracking.losses import box_loss, class_loss, past_loss
from plugins.tracking.matching import TrackMatches, TrackTruth, active_rows, match_tracks, survives
from plugins.tracking.model import Tracking
from plugins.tracking.randomness import drop, false_positives
from plugins.tracking.state import FREE_ID, LidarPose, moved_reference
from toolkit.nn.coordinates import inverse_sigmoid
from toolkit.nn.initial import last_linear, rare_classes, ring_of_samples, xavier_matrices
from toolkit.training.spec import Calls, Direct, Moment, Option, Step, Tensors, Training

DROP, FALSE_POSITIVES, IMPRECISE = "random_drop", "fp_ratio", "carry_imprecise"
POSE = ("timestamp", "l2g_rotation", "l2g_translation")
PAST_WEIGHT = {1: 0.0, 2: 1.0}
"""By stage: the first one computes paths, and so lets their branches decay, but does not learn them."""
PADDED_TRACKS = 128
"""Rows besides the fresh queries are padded to a multiple of this where few different numbers are wanted."""


class TrainedLayers(NamedTuple):
    """What all L decoder layers and their branches give for N rows, and the last one for what follows."""

    state: Tensor
    """[N, C], of the last layer"""
    reference: Tensor
    """[N, 3], (x, y, z) in [0, 1] over the BEV range, as the last layer refined it"""
    boxes: Tensor
    """[L, N, 10], coded"""
    logits: Tensor
    """[L, N, classes]"""
    paths: Tensor
    """[L, N, T, 2], past and coming steps (m) as offsets from the centre, LiDAR axes"""


class Entering(NamedTuple):
    """The rows of a frame as they enter it, fields as in `Tracks`. What only inference keeps of a track is left out."""

    query: Tensor
    reference: Tensor
    id: Tensor
    """[N] int64, on the host"""
    iou: Tensor
    memory: Tensor
    memory_padding: Tensor


class Seen(NamedTuple):
    """What the last decoder layer has seen, on the host."""

    matches: TrackMatches
    scores: Tensor
    """[N], of the likeliest class"""
    boxes: Tensor
    """[N, 10], coded"""


def step(module: nn.Module, moment: Moment) -> Step:
    """Find the objects of a frame with every decoder layer, and carry on those that the last one found."""
    assert isinstance(module, Tracking)
    tracking = module.config.tracking
    truth = truth_of(moment.truth, moment.tensors["bev"].dtype)
    tracks = entering_tracks(module, moment)
    layers = decode(moment.calls, module, tracks, moment.tensors["bev"])
    # All layers match from what the frame before left; what the last one finds lives on.
    matches = match_tracks(tracks.id, tracks.iou, layers.logits, layers.boxes, truth, tracking)
    of_layers = {
        "loss_cls": class_loss(layers.logits, matches, truth, tracking),
        "loss_bbox": box_loss(layers.boxes, matches, truth, tracking),
        "loss_past_trajs": PAST_WEIGHT[moment.stage] * past_loss(layers.paths, matches, truth),
    }
    losses = {
        f"track.frame_{moment.index}_{name}_{number}": loss
        for number, of_layer in enumerate(zip(*(each.unbind() for each in of_layers.values()), strict=True))
        for name, loss in zip(of_layers, of_layer, strict=True)
    }
    scores, labels = layers.logits[-1].sigmoid().max(-1)
    seen = on_the_host(matches, scores, layers.boxes[-1])
    state = None if moment.last else leaving_tracks(module, moment, tracks, layers, seen)
    return Step(agents(module, layers, seen, scores, labels), losses, state)


def truth_of(truth: Tensors, dtype: torch.dtype) -> TrackTruth:
    """The objects of the frame, their boxes in the type in which the network computes."""
    return TrackTruth(
        boxes=truth["gt_bboxes_3d"].to(dtype),
        labels=truth["gt_labels_3d"],
        ids=truth["gt_inds"],
        past=truth["gt_past_traj"],
        past_mask=truth["gt_past_traj_mask"],
        ego_box=truth["gt_sdc_bbox"].to(dtype),
        ego_label=truth["gt_sdc_label"],
    )


def entering_tracks(module: Tracking, moment: Moment) -> Entering:
    """The learned queries, then the tracks that the frame before left, where they should be now."""
    query = module.query_embedding.weight
    rows, channels = len(query), module.config.embed
    fresh = Entering(
        query=query,
        reference=module.reference_points(query[:, :channels]),
        id=torch.full((rows,), FREE_ID),
        iou=query.new_zeros(rows),
        memory=query.new_zeros(rows, module.config.tracking.memory_length, channels),
        memory_padding=query.new_ones(rows, module.config.tracking.memory_length, dtype=torch.int32),
    )
    if (state := moment.state) is None:
        return fresh
    xy = moved_reference(state["reference"], state["box"], pose_in(state), pose_in(moment.tensors), module.config.bev)
    carried = {**state, "reference": torch.cat((xy, state["height"]), -1)}
    return Entering(*(torch.cat((own, carried[name])) for name, own in fresh._asdict().items()))


def pose_in(tensors: Tensors) -> LidarPose:
    """The pose of a frame."""
    return LidarPose(*(tensors[name] for name in POSE))


def decode(calls: Calls, module: Tracking, tracks: Entering, bev: Tensor) -> TrainedLayers:
    """All decoder layers with all their branches."""
    head, rows, queries = module.pts_bbox_head, len(tracks.query), module.config.tracking.queries
    more = calls.padded(rows - queries, PADDED_TRACKS) - (rows - queries)
    if not more:
        return TrainedLayers(*calls(all_layers, head, tracks.query, tracks.reference, bev))
    query, reference = (functional.pad(x, (0, 0, 0, more)) for x in (tracks.query, tracks.reference))
    valid = torch.arange(rows + more, device=bev.device) < rows
    state, refined, *of_layers = calls(all_layers, head, query, reference, bev, valid)
    return TrainedLayers(state[:rows], refined[:rows], *(x[:, :rows] for x in of_layers))


def all_layers(head: nn.Module, query: Tensor, reference: Tensor, bev: Tensor, *valid: Tensor) -> tuple[Tensor, ...]:
    """`TrainedLayers` of query [N, 2C], reference [N, 3] in logit space, bev [H*W, C], and which rows are valid."""
    assert isinstance(head, DetectionHead)
    layers = head.decode(query, reference, bev, *(valid or (None,)))
    states = [layer.state for layer in layers]
    logits, paths = (
        torch.stack([branch(state) for branch, state in zip(branches, states, strict=True)])
        for branches in (head.cls_branches, head.past_traj_reg_branches)
    )
    boxes = torch.stack([layer.box for layer in layers])
    return states[-1], layers[-1].reference, boxes, logits, paths.unflatten(-1, (PAST_STEPS, 2))


@torch.no_grad()
def on_the_host(matches: TrackMatches, scores: Tensor, boxes: Tensor) -> Seen:
    """The last layer's, from matches of all, scores [N] and its coded boxes [N, 10]; a GPU is waited for once."""
    downloaded = torch.cat((matches.iou[-1][:, None], scores[:, None], boxes), 1).cpu()
    overlap, scores, boxes = downloaded.split((1, 1, boxes.shape[1]), 1)
    last = TrackMatches(matches.ids[-1], matches.objects[-1], overlap.squeeze(1))
    return Seen(last, scores.squeeze(1), boxes)


def agents(module: Tracking, layers: TrainedLayers, seen: Seen, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What the heads after tracking are trained on: rows that have found their object, and the ego as the last one.

    Besides the outputs of inference, which end with the last valid row here, `agent_objects` [A] int64 are the objects
    of all but the ego, as rows of the frame's ground truth, and `agent_boxes` [A + 1, 10] the coded boxes. scores and
    labels [N] are the last layer's.
    """
    tracking = module.config.tracking
    active = active_rows(seen.matches, seen.scores, seen.boxes, tracking)
    ego = active.new_tensor([tracking.queries - 1])
    rows, objects = torch.stack((torch.cat((active, ego)), seen.matches.objects[torch.cat((active, ego))])).to(
        labels.device
    )
    coded = layers.boxes[-1].index_select(0, rows)
    boxes = decode_boxes(coded)
    return {
        "agent_embedding": layers.state.index_select(0, rows),
        "agent_center": gravity_centers(boxes),
        "agent_yaw": boxes[:, 6],
        "agent_label": labels[rows].int(),
        "agent_score": scores[rows],
        "agent_valid": torch.ones_like(rows, dtype=torch.bool),
        "agent_objects": objects[:-1],
        "agent_boxes": coded,
    }


def leaving_tracks(
    module: Tracking, moment: Moment, tracks: Entering, layers: TrainedLayers, seen: Seen
) -> dict[str, Tensor]:
    """The rows that enter the next frame, and the pose in which they were seen; gradients flow on through them."""
    matches = seen.matches
    kept = survives(matches, imprecise=bool(moment.options[IMPRECISE]))
    carried = drop(kept.nonzero().squeeze(1), moment.options[DROP])
    free = (~matches.carrying).nonzero().squeeze(1)
    wrong = false_positives(free, seen.scores, carried, moment.options[FALSE_POSITIVES])
    chosen = torch.cat((carried, wrong))
    count = len(chosen)
    calls = moment.calls if count else Direct()  # no rows make a graph of nothing
    more = calls.padded(count, PADDED_TRACKS) - count
    rows = functional.pad(chosen, (0, more)).to(layers.state.device)
    sources = (tracks.query, layers.state, tracks.memory, tracks.memory_padding)
    valid = [torch.arange(count + more, device=rows.device) < count] if more else []
    updated = calls(updated_tracks, module, *(x.index_select(0, rows) for x in sources), *valid)
    query, height, memory, padding = (x[:count] for x in updated)
    rows = rows[:count]
    return {
        "query": query,
        "reference": inverse_sigmoid(layers.reference.index_select(0, rows)),
        "height": height,
        "box": layers.boxes[-1].index_select(0, rows),
        "id": matches.ids[chosen],
        "iou": matches.iou[chosen].to(tracks.iou),
        "memory": memory,
        "memory_padding": padding,
        **{name: moment.tensors[name] for name in POSE},
    }


def updated_tracks(
    module: nn.Module, query: Tensor, state: Tensor, memory: Tensor, padding: Tensor, *valid: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries [K, 2C], heights [K, 1] of the next references, memory and its padding, of rows that leave the frame.

    From the query [K, 2C] of each, its state [K, C], memory [K, M, C], padding [K, M], and which are valid, bool [K].
    """
    assert isinstance(module, Tracking)
    # Unlike in inference the height of the next reference is that of the query before it is updated.
    height = module.reference_points(query[:, : module.config.embed])[:, 2:]
    embedding = module.memory_bank.recall(state, memory, padding)
    memory, padding = module.memory_bank.shifted(memory, padding, embedding)
    return module.query_interact(query, embedding, *valid), height, memory, padding


def prepare(module: nn.Module, stage: int, options: Mapping[str, Option]) -> None:
    """The weights of box entries are constants."""
    assert isinstance(module, Tracking)
    module.pts_bbox_head.code_weights.requires_grad_(False)
    module.criterion.requires_grad_(False)


def initialise(module: nn.Module) -> None:
    """The decoder's weights, and rare classes."""
    assert isinstance(module, Tracking)
    xavier_matrices(module.pts_bbox_head.transformer)
    ring_of_samples(module.pts_bbox_head.transformer)
    nn.init.xavier_uniform_(module.reference_points.weight)
    nn.init.zeros_(module.reference_points.bias)
    for branch in module.pts_bbox_head.cls_branches:
        rare_classes(last_linear(branch))


def compiled(module: nn.Module) -> list[nn.Module]:
    """Decoder layers, and what updates queries."""
    assert isinstance(module, Tracking)
    decoder = module.pts_bbox_head.transformer["decoder"]
    assert isinstance(decoder, TrackDecoder)
    return [*decoder.layers, module.query_interact]


TRAINING = Training(
    step,
    truth=track_truth,
    initialise=initialise,
    prepare=prepare,
    compiled=compiled,
    options={DROP: 0.1, FALSE_POSITIVES: 0.3, IMPRECISE: False},
)
