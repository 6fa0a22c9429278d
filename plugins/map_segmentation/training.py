"""How the map is trained: in the last frame of a clip, through every decoder layer and every mask block."""

from __future__ import annotations

from torch import Tensor, nn

from plugins.map_segmentation.ground_truth import map_truth
from plugins.map_segmentation.losses import stuff_class_loss, stuff_mask_loss, thing_losses, thing_mask_loss
from plugins.map_segmentation.mask_head import MaskBlock, MaskHead
from plugins.map_segmentation.matching import MapTruth, match_masks, match_things, split_truth
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
    losses = decoder_losses(head, layers, truth) | thing_losses_of_masks(head, layers[-1], memory, truth)
    losses |= stuff_losses_of_masks(head, memory, truth)
    return Step(
        {"lane_query": layers[-1].states, "lane_query_position": position},
        {PREFIX + name: loss for name, loss in losses.items()},
    )


def decoder_losses(head: PanopticMapHead, layers: list[DecodedQueries], truth: MapTruth) -> dict[str, Tensor]:
    """Classes and boxes of every decoder layer."""
    losses: dict[str, Tensor] = {}
    for number, (classify, (states, boxes)) in enumerate(zip(head.cls_branches, layers, strict=True)):
        prefix = "" if number == len(layers) - 1 else f"d{number}."
        logits = classify(states)
        found = thing_losses(logits, boxes, match_things(logits, boxes, truth), truth)
        losses |= {prefix + name: loss for name, loss in found._asdict().items()}
    return losses


def thing_losses_of_masks(
    head: PanopticMapHead, last: DecodedQueries, memory: Tensor, truth: MapTruth
) -> dict[str, Tensor]:
    """Masks of the queries that the last decoder layer has matched, of every block and the final ones."""
    logits = head.cls_branches[-1](last.states)
    rows = match_things(logits, last.boxes, truth).rows
    blocks, final = all_masks(head, head.things_mask_head, last.states[rows], memory)
    matches = match_masks(logits[rows], last.boxes[rows], final, truth)
    losses = {"loss_mask_things": thing_mask_loss(final, matches, truth)}
    for number, (query, masks) in enumerate(blocks):
        # The reference computes classes and boxes of the blocks and weighs them by 0: their branches get a gradient
        # of zeros, by which the optimiser lets them decay.
        unused = {"loss_iou_f": head.reg_branches2, "loss_bbox_f": head.reg_branches2,
                  "loss_cls_f": head.cls_thing_branches}  # fmt: skip
        losses[f"d{number}.loss_mask_things_f"] = thing_mask_loss(masks, matches, truth)
        losses |= {f"d{number}.{name}": 0 * branches[number](query).sum() for name, branches in unused.items()}
    return losses


def stuff_losses_of_masks(head: PanopticMapHead, memory: Tensor, truth: MapTruth) -> dict[str, Tensor]:
    """Masks of the kinds of stuff, of every block and the final ones, and by every block whether they are there."""
    query, position = head.stuff_query.weight.chunk(2, -1)
    blocks, final = all_masks(head, head.stuff_mask_head, query, memory, position)
    losses = {"loss_mask_stuff": stuff_mask_loss(final, truth)}
    for number, ((query, masks), classify) in enumerate(zip(blocks, head.cls_stuff_branches, strict=True)):
        losses[f"d{number}.loss_mask_stuff_f"] = stuff_mask_loss(masks, truth)
        losses[f"d{number}.loss_cls_stuff_f"] = stuff_class_loss(classify(query), truth)
    return losses


def all_masks(
    head: PanopticMapHead, masks: MaskHead, query: Tensor, memory: Tensor, position: Tensor | None = None
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Queries [Q, C] and masks [Q, H, W] of every block, and the final masks [Q, H, W]."""
    outputs = masks.run_blocks(query, memory, position)
    blocks = []
    for block, output in zip(masks.blocks, outputs, strict=True):
        assert isinstance(block, MaskBlock)
        blocks.append((output.query, block.attn.scores(output.logits).view(-1, *head.spatial_shape)))
    return blocks, masks.scores(outputs[-1].query, memory, position).view(-1, *head.spatial_shape)


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


TRAINING = Training(step, truth=map_truth, initialise=initialise)
