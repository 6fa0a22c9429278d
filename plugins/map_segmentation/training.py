"""How the map is trained: in the last frame of a clip, through every decoder layer and every mask block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from plugins.map_segmentation.ground_truth import map_truth
from plugins.map_segmentation.losses import stuff_class_loss, stuff_mask_loss, thing_losses, thing_mask_loss
from plugins.map_segmentation.mask_head import MaskBlock, MaskHead
from plugins.map_segmentation.matching import MapTruth, ThingMatches, match_masks, match_things, split_truth
from plugins.map_segmentation.model import MapSegmentation, PanopticMapHead
from plugins.map_segmentation.transformer import DecodedQueries
from toolkit.nn.initial import last_linear, rare_classes, ring_of_samples, xavier_matrices
from toolkit.training.spec import Calls, Moment, Step, Training

PREFIX = "map."
SIZE_LOGIT = -2.0
"""Of a new box's width and height, as shares of the map's."""
PADDED_THINGS = 64
"""Matched queries are padded to a multiple of this where few different numbers are wanted."""


def step(module: nn.Module, moment: Moment) -> Step:
    """Lane queries for the motion forecast, and the losses of the map; nothing before the last frame."""
    if not moment.last:
        return Step()
    assert isinstance(module, MapSegmentation)
    head: PanopticMapHead = module.seg_head
    bev = moment.tensors["bev"]
    labels, boxes, masks = (moment.truth[f"gt_lane_{name}"] for name in ("labels", "bboxes", "masks"))
    truth = split_truth(labels, boxes.to(bev), masks, head.thing_classes)

    memory, states, boxes, logits = moment.calls(decoded, head, bev)
    matches = match_things(logits, boxes, truth)
    losses = decoder_losses(logits, boxes, matches, truth)
    rows = matches.rows[-1]
    last = DecodedQueries(states[rows], boxes[-1][rows])
    losses |= thing_losses_of_masks(moment.calls, head, last, logits[-1][rows], memory, truth)
    losses |= stuff_losses_of_masks(moment.calls, head, memory, truth)
    return Step(
        {"lane_query": states, "lane_query_position": head.query_embedding.weight.chunk(2, -1)[0]},
        {PREFIX + name: loss for name, loss in losses.items()},
    )


def decoded(head: nn.Module, bev: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of BEV [H*W, C]: memory [H*W, C], the last layer's queries [Q, C], every layer's boxes [L, Q, 4] and logits."""
    assert isinstance(head, PanopticMapHead)
    position, content = head.query_embedding.weight.chunk(2, -1)
    memory, layers = head.transformer(bev, content, position, head.reg_branches)
    logits = torch.stack([classify(each.states) for classify, each in zip(head.cls_branches, layers, strict=True)])
    return memory, layers[-1].states, torch.stack([each.boxes for each in layers]), logits


def decoder_losses(logits: Tensor, boxes: Tensor, matches: ThingMatches, truth: MapTruth) -> dict[str, Tensor]:
    """Classes and boxes of every decoder layer: logits [L, Q, classes], boxes [L, Q, 4], and their matches."""
    of_layers = thing_losses(logits, boxes, matches, truth)
    losses: dict[str, Tensor] = {}
    for number, found in enumerate(zip(*(each.unbind() for each in of_layers), strict=True)):
        prefix = "" if number == len(logits) - 1 else f"d{number}."
        losses |= {prefix + name: loss for name, loss in zip(of_layers._fields, found, strict=True)}
    return losses


def thing_losses_of_masks(
    calls: Calls, head: PanopticMapHead, queries: DecodedQueries, logits: Tensor, memory: Tensor, truth: MapTruth
) -> dict[str, Tensor]:
    """Masks of the P queries that the last decoder layer has matched, of every block and the final ones.

    logits [P, classes] of that layer.
    """
    count = len(logits)
    more = calls.padded(count, PADDED_THINGS) - count
    states = functional.pad(queries.states, (0, 0, 0, more)) if more else queries.states
    masks, unused_boxes, unused_classes = calls(thing_masks, head, states, memory)
    masks = masks[:, :count].unflatten(-1, head.spatial_shape)
    matches = match_masks(logits, queries.boxes, masks[-1], truth)
    *of_blocks, final = thing_mask_loss(masks, matches, truth).unbind()
    losses = {"loss_mask_things": final}
    for number, (loss, boxes, classes) in enumerate(
        zip(of_blocks, unused_boxes.unbind(), unused_classes.unbind(), strict=True)
    ):
        unused = {"loss_iou_f": boxes, "loss_bbox_f": boxes, "loss_cls_f": classes}
        losses[f"d{number}.loss_mask_things_f"] = loss
        losses |= {f"d{number}.{name}": zero for name, zero in unused.items()}
    return losses


def thing_masks(head: nn.Module, states: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Masks [blocks + 1, P, H*W] of queries [P, C], each on its own, and two zeros [blocks].

    The reference computes classes and boxes of the blocks and weighs them by 0: their branches get a gradient of zeros,
    by which the optimiser lets them decay.
    """
    assert isinstance(head, PanopticMapHead)
    queries, masks = all_masks(head.things_mask_head, states, memory)
    boxes, classes = (
        0 * torch.stack([branch(query).sum() for branch, query in zip(branches, queries, strict=True)])
        for branches in (head.reg_branches2, head.cls_thing_branches)
    )
    return masks, boxes, classes


def stuff_losses_of_masks(calls: Calls, head: PanopticMapHead, memory: Tensor, truth: MapTruth) -> dict[str, Tensor]:
    """Masks of the kinds of stuff, of every block and the final ones, and by every block whether they are there."""
    masks, there = calls(stuff_masks, head, memory)
    *of_blocks, final = stuff_mask_loss(masks.unflatten(-1, head.spatial_shape), truth).unbind()
    losses = {"loss_mask_stuff": final}
    for number, (masked, seen) in enumerate(zip(of_blocks, stuff_class_loss(there, truth).unbind(), strict=True)):
        losses[f"d{number}.loss_mask_stuff_f"] = masked
        losses[f"d{number}.loss_cls_stuff_f"] = seen
    return losses


def stuff_masks(head: nn.Module, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Masks [blocks + 1, kinds, H*W] of the kinds of stuff, and logits [blocks, kinds, 1] of whether they are there."""
    assert isinstance(head, PanopticMapHead)
    query, position = head.stuff_query.weight.chunk(2, -1)
    queries, masks = all_masks(head.stuff_mask_head, query, memory, position)
    there = torch.stack([classify(x) for classify, x in zip(head.cls_stuff_branches, queries, strict=True)])
    return masks, there


def all_masks(
    masks: MaskHead, query: Tensor, memory: Tensor, position: Tensor | None = None
) -> tuple[list[Tensor], Tensor]:
    """Queries [Q, C] of every block, and masks [blocks + 1, Q, H*W] of every block and the final ones."""
    outputs = masks.run_blocks(query, memory, position)
    scores = []
    for block, output in zip(masks.blocks, outputs, strict=True):
        assert isinstance(block, MaskBlock)
        scores.append(block.attn.scores(output.logits))
    scores.append(masks.scores(outputs[-1].query, memory, position))
    return [output.query for output in outputs], torch.stack(scores)


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
