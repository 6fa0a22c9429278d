"""How the map is trained: in the last frame of a clip, through every decoder layer and every mask block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from plugins.map_segmentation.ground_truth import map_truth
from plugins.map_segmentation.losses import stuff_class_loss, stuff_mask_loss, thing_losses, thing_mask_loss
from plugins.map_segmentation.mask_head import MaskBlock, MaskHead
from plugins.map_segmentation.matching import MapTruth, ThingMatches, match_masks, match_things, split_truth
from plugins.map_segmentation.model import MapSegmentation, PanopticMapHead
from plugins.map_segmentation.transformer import DecodedQueries
from toolkit.nn.initial import last_linear, rare_classes, ring_of_samples, xavier_matrices
from toolkit.training.spec import Moment, Step, Training

PREFIX = "map."
SIZE_LOGIT = -2.0
"""Of a new box's width and height, as shares of the map's."""


def step(module: nn.Module, moment: Moment) -> Step:
    """Lane queries for the motion forecast, and the losses of the map; nothing before the last frame."""
    if not moment.last:
        return Step()
    assert isinstance(module, MapSegmentation)
    head: PanopticMapHead = module.seg_head
    bev = moment.tensors["bev"]
    labels, boxes, masks = (moment.truth[f"gt_lane_{name}"] for name in ("labels", "bboxes", "masks"))
    truth = split_truth(labels, boxes.to(bev), masks, head.thing_classes)

    position, content = head.query_embedding.weight.chunk(2, -1)
    memory, layers = head.transformer(bev, content, position, head.reg_branches)
    logits = torch.stack([classify(each.states) for classify, each in zip(head.cls_branches, layers, strict=True)])
    boxes = torch.stack([each.boxes for each in layers])
    matches = match_things(logits, boxes, truth)
    losses = decoder_losses(logits, boxes, matches, truth)
    rows = matches.rows[-1]
    losses |= thing_losses_of_masks(head, layers[-1], logits[-1], rows, memory, truth)
    losses |= stuff_losses_of_masks(head, memory, truth)
    return Step(
        {"lane_query": layers[-1].states, "lane_query_position": position},
        {PREFIX + name: loss for name, loss in losses.items()},
    )


def decoder_losses(logits: Tensor, boxes: Tensor, matches: ThingMatches, truth: MapTruth) -> dict[str, Tensor]:
    """Classes and boxes of every decoder layer: logits [L, Q, classes], boxes [L, Q, 4], and their matches."""
    of_layers = thing_losses(logits, boxes, matches, truth)
    losses: dict[str, Tensor] = {}
    for number, found in enumerate(zip(*(each.unbind() for each in of_layers), strict=True)):
        prefix = "" if number == len(logits) - 1 else f"d{number}."
        losses |= {prefix + name: loss for name, loss in zip(of_layers._fields, found, strict=True)}
    return losses


def thing_losses_of_masks(
    head: PanopticMapHead, last: DecodedQueries, logits: Tensor, rows: Tensor, memory: Tensor, truth: MapTruth
) -> dict[str, Tensor]:
    """Masks of the queries that the last decoder layer has matched, of every block and the final ones.

    logits [Q, classes] of that layer; rows [P] that it has matched.
    """
    queries, masks = all_masks(head, head.things_mask_head, last.states[rows], memory)
    matches = match_masks(logits[rows], last.boxes[rows], masks[-1], truth)
    *of_blocks, final = thing_mask_loss(masks, matches, truth).unbind()
    losses = {"loss_mask_things": final}
    for number, (query, loss) in enumerate(zip(queries, of_blocks, strict=True)):
        # The reference computes classes and boxes of the blocks and weighs them by 0: their branches get a gradient
        # of zeros, by which the optimiser lets them decay.
        boxes, classes = (0 * part[number](query).sum() for part in (head.reg_branches2, head.cls_thing_branches))
        unused = {"loss_iou_f": boxes, "loss_bbox_f": boxes, "loss_cls_f": classes}
        losses[f"d{number}.loss_mask_things_f"] = loss
        losses |= {f"d{number}.{name}": zero for name, zero in unused.items()}
    return losses


def stuff_losses_of_masks(head: PanopticMapHead, memory: Tensor, truth: MapTruth) -> dict[str, Tensor]:
    """Masks of the kinds of stuff, of every block and the final ones, and by every block whether they are there."""
    query, position = head.stuff_query.weight.chunk(2, -1)
    queries, masks = all_masks(head, head.stuff_mask_head, query, memory, position)
    there = torch.stack([classify(x) for classify, x in zip(head.cls_stuff_branches, queries, strict=True)])
    *of_blocks, final = stuff_mask_loss(masks, truth).unbind()
    losses = {"loss_mask_stuff": final}
    for number, (masked, seen) in enumerate(zip(of_blocks, stuff_class_loss(there, truth).unbind(), strict=True)):
        losses[f"d{number}.loss_mask_stuff_f"] = masked
        losses[f"d{number}.loss_cls_stuff_f"] = seen
    return losses


def all_masks(
    head: PanopticMapHead, masks: MaskHead, query: Tensor, memory: Tensor, position: Tensor | None = None
) -> tuple[list[Tensor], Tensor]:
    """Queries [Q, C] of every block, and masks [blocks + 1, Q, H, W] of every block and the final ones."""
    outputs = masks.run_blocks(query, memory, position)
    scores = []
    for block, output in zip(masks.blocks, outputs, strict=True):
        assert isinstance(block, MaskBlock)
        scores.append(block.attn.scores(output.logits))
    scores.append(masks.scores(outputs[-1].query, memory, position))
    return [output.query for output in outputs], torch.stack(scores).unflatten(-1, head.spatial_shape)


def initialise(module: nn.Module) -> None:
    """The transformer's weights, rare classes, and boxes that begin at their reference points, of moderate size."""
    assert isinstance(module, MapSegmentation)
    head: PanopticMapHead = module.seg_head
    xavier_matrices(head.transformer)
    ring_of_samples(head.transformer)
    nn.init.normal_(head.transformer.level_embeds)
    for classify in (*head.cls_branches, *head.cls_thing_branches, *head.cls_stuff_branches):
        rare_classes(classify)
    for number, regress in enumerate(head.reg_branches):
        last = last_linear(regress)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        if number == 0:
            nn.init.constant_(last.bias[2:], SIZE_LOGIT)


def compiled(module: nn.Module) -> list[nn.Module]:
    """Layers of the transformer, and the blocks that make masks."""
    assert isinstance(module, MapSegmentation)
    head: PanopticMapHead = module.seg_head
    layers = (*head.transformer.encoder.layers, *head.transformer.decoder.layers)
    return [*layers, *head.things_mask_head.blocks, *head.stuff_mask_head.blocks]


TRAINING = Training(step, truth=map_truth, initialise=initialise, compiled=compiled)
