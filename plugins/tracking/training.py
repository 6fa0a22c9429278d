"""How tracking is trained: tracks live as long as their objects do, and every decoder layer is supervised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from plugins.tracking.boxes import decode_boxes, gravity_centers
from plugins.tracking.decoder import PAST_STEPS, DecodedLayer, DetectionHead
from plugins.tracking.ground_truth import track_truth
from plugins.tracking.losses import box_loss, class_loss, past_loss
from plugins.tracking.matching import TrackMatches, TrackTruth, active_rows, match_tracks, survives
from plugins.tracking.model import Tracking
from plugins.tracking.randomness import drop, false_positives
from plugins.tracking.state import LidarPose, Tracks, moved_reference
from toolkit.nn.coordinates import inverse_sigmoid
from toolkit.nn.initial import last_linear, rare_classes, ring_of_samples, xavier_matrices
from toolkit.training.spec import Moment, Option, Step, Tensors, Training

DROP, FALSE_POSITIVES = "random_drop", "fp_ratio"
POSE = ("timestamp", "l2g_rotation", "l2g_translation")
PAST_WEIGHT = {1: 0.0, 2: 1.0}
"""By stage: the first one computes paths, and so lets their branches decay, but does not learn them."""


class TrainedLayer(NamedTuple):
    """What a decoder layer and its branches give for N rows."""

    decoded: DecodedLayer
    logits: Tensor
    """[N, classes]"""
    paths: Tensor
    """[N, T, 2], past and coming steps (m) as offsets from the centre, LiDAR axes"""


def step(module: nn.Module, moment: Moment) -> Step:
    """Find the objects of a frame with every decoder layer, and carry on those that the last one found."""
    assert isinstance(module, Tracking)
    truth = truth_of(moment.truth, moment.tensors["bev"].dtype)
    tracks = entering_tracks(module, moment)
    layers = decode(module.pts_bbox_head, tracks, moment.tensors["bev"])
    # All layers match from what the frame before left; what the last one finds lives on.
    matches = match_tracks(
        tracks.id.long(),
        tracks.iou,
        [layer.logits for layer in layers],
        [layer.decoded.box for layer in layers],
        truth,
        module.config.tracking,
    )
    losses: dict[str, Tensor] = {}
    for number, (layer, found) in enumerate(zip(layers, matches, strict=True)):
        of_layer = {
            "loss_cls": class_loss(layer.logits, found, truth, module.config.tracking),
            "loss_bbox": box_loss(layer.decoded.box, found, truth, module.config.tracking),
            "loss_past_trajs": PAST_WEIGHT[moment.stage] * past_loss(layer.paths, found, truth),
        }
        losses |= {f"track.frame_{moment.index}_{name}_{number}": loss for name, loss in of_layer.items()}
    state = None if moment.last else leaving_tracks(module, moment, tracks, layers[-1], matches[-1])
    return Step(agents(module, layers[-1], matches[-1]), losses, state)


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


def entering_tracks(module: Tracking, moment: Moment) -> Tracks:
    """The learned queries, then the tracks that the frame before left, where they should be now."""
    if moment.state is None:
        return module.fresh()
    carried = Tracks(*(moment.state[name] for name in Tracks._fields))
    xy = moved_reference(carried, pose_in(moment.state), pose_in(moment.tensors), module.config.bev)
    return module.fresh().append(carried._replace(reference=torch.cat((xy, moment.state["height"]), -1)))


def pose_in(tensors: Tensors) -> LidarPose:
    """The pose of a frame."""
    return LidarPose(*(tensors[name] for name in POSE))


def decode(head: DetectionHead, tracks: Tracks, bev: Tensor) -> list[TrainedLayer]:
    """All decoder layers with all their branches."""
    layers = head.decode(tracks.query, tracks.reference, bev, None)
    branches = zip(layers, head.cls_branches, head.past_traj_reg_branches, strict=True)
    return [
        TrainedLayer(layer, classify(layer.state), regress(layer.state).unflatten(-1, (PAST_STEPS, 2)))
        for layer, classify, regress in branches
    ]


def agents(module: Tracking, last: TrainedLayer, matches: TrackMatches) -> dict[str, Tensor]:
    """What the heads after tracking are trained on: rows that have found their object, and the ego as the last one.

    Besides the outputs of inference, which end with the last valid row here, `agent_objects` [A] int64 are the objects
    of all but the ego, as rows of the frame's ground truth, and `agent_boxes` [A + 1, 10] the coded boxes.
    """
    tracking = module.config.tracking
    scores, labels = last.logits.sigmoid().max(-1)
    rows = active_rows(matches, scores, last.decoded.box, tracking)
    objects = matches.objects[rows]
    rows = torch.cat((rows, rows.new_full((1,), tracking.queries - 1)))
    boxes = decode_boxes(last.decoded.box[rows])
    return {
        "agent_embedding": last.decoded.state[rows],
        "agent_center": gravity_centers(boxes),
        "agent_yaw": boxes[:, 6],
        "agent_label": labels[rows].int(),
        "agent_score": scores[rows],
        "agent_valid": torch.ones_like(rows, dtype=torch.bool),
        "agent_objects": objects,
        "agent_boxes": last.decoded.box[rows],
    }


def leaving_tracks(
    module: Tracking, moment: Moment, tracks: Tracks, last: TrainedLayer, matches: TrackMatches
) -> dict[str, Tensor]:
    """The rows that enter the next frame, and the pose in which they were seen; gradients flow on through them."""
    scores = last.logits.sigmoid().amax(-1)
    carried = drop(survives(matches).nonzero().squeeze(1), moment.options[DROP])
    free = (~matches.carrying).nonzero().squeeze(1)
    rows = torch.cat((carried, false_positives(free, scores, carried, moment.options[FALSE_POSITIVES])))
    left = tracks._replace(
        reference=inverse_sigmoid(last.decoded.reference), id=matches.ids, iou=matches.iou, box=last.decoded.box
    ).take(rows)
    # Unlike in inference the height of the next reference is that of the query before it is updated.
    height = module.reference_points(left.query[:, : module.config.embed])[:, 2:]
    embedding = module.memory_bank.recall(last.decoded.state[rows], left.memory, left.memory_padding)
    left = module.memory_bank.push(left, embedding, torch.ones_like(rows, dtype=torch.bool))
    left = left._replace(query=module.query_interact(left.query, embedding))
    return {**left._asdict(), "height": height, **{name: moment.tensors[name] for name in POSE}}


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


TRAINING = Training(
    step, truth=track_truth, initialise=initialise, prepare=prepare, options={DROP: 0.1, FALSE_POSITIVES: 0.3}
)
