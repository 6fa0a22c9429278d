"""Merging of overlapping map instances into lane masks: sequential by nature, so it runs on the host.

Li et al., "Panoptic SegFormer" (2022), "Mask-Wise Merging Inference", with the constants of the reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import MapConfig, ModelConfig


def postprocess(results: Mapping[str, NDArray[Any]], config: ModelConfig) -> dict[str, NDArray[Any]]:
    """Derive the map from the results `map_scores`, `map_labels`, `map_boxes` and `map_mask_scores` of a frame.

    With N instances, T thing classes and a BEV of H rows (along y) and W columns (along x), returns

    - `map_lanes` [T, H, W] bool: cells claimed by instances of each thing class; no cell is claimed twice;
    - `map_lane_scores` [T, H, W] float32: raw mask score of the claiming instance, 0 in free cells;
    - `map_drivable` [H, W] bool: the drivable area, which takes no part in the claims;
    - `map_merge_scores` [N] float32: class score times squared mask quality, descending; the arrays below follow
      this order, where equal scores keep the order of `map_scores`;
    - `map_instance_boxes` [N, 4] float32: x0, y0, x1, y1 in BEV cells;
    - `map_instance_labels` [N] int32: index into the config's thing classes;
    - `map_instance_masks` [N, H, W] bool: whole masks, before claims.
    """
    mask_scores = results["map_mask_scores"]
    all_masks = mask_scores > config.map.mask_threshold
    thing_scores, masks = mask_scores[: config.map.max_instances], all_masks[: config.map.max_instances]
    scores = merge_scores(results["map_scores"], thing_scores, masks)
    order = np.argsort(-scores, kind="stable")
    lanes, lane_scores = claim_cells(order, scores, results["map_labels"], masks, thing_scores, config.map)
    return {
        "map_lanes": lanes,
        "map_lane_scores": lane_scores,
        "map_drivable": all_masks[-1],
        "map_merge_scores": scores[order],
        "map_instance_boxes": results["map_boxes"][order],
        "map_instance_labels": results["map_labels"][order],
        "map_instance_masks": masks[order],
    }


def merge_scores(
    scores: NDArray[np.float32], mask_scores: NDArray[np.float32], masks: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Class scores [N] times the squared mean of the mask scores [N, H, W] inside the masks [N, H, W] -> [N].

    The mean divides by one cell more than the mask has, so that an empty mask scores 0.
    """
    import cv2  # commands that merge nothing start without it

    grid = len(masks), math.prod(masks.shape[1:])
    inside = cv2.copyTo(mask_scores.reshape(grid), masks.view(np.uint8).reshape(grid))  # zeros elsewhere
    # The smallest type that can count a grid's cells: the next larger one takes twice as long.
    cells = masks.reshape(grid).sum(1, np.min_scalar_type(grid[1])).astype(np.float32)
    quality = inside.sum(1) / (cells + 1)
    merged: NDArray[np.float32] = scores * quality**2
    return merged


def claim_cells(
    order: NDArray[np.intp],
    scores: NDArray[np.float32],
    labels: NDArray[np.int32],
    masks: NDArray[np.bool_],
    mask_scores: NDArray[np.float32],
    config: MapConfig,
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Let instances, in this order, claim the cells of their masks that are still free.

    An instance is passed over when its merge score is below the threshold, its mask is empty, or cells claimed
    so far (by any class) cover too large a share of its mask. Merge scores and labels [N], masks and mask scores
    [N, H, W] -> lanes [T, H, W] and lane scores [T, H, W] of the T thing classes.
    """
    shape = (len(config.thing_classes), *masks.shape[1:])
    lanes, lane_scores = np.zeros(shape, np.bool_), np.zeros(shape, np.float32)
    candidates = order[~(scores[order] < config.score_threshold)]
    free, occupied = np.ones(shape[1:], np.bool_), 0  # the same twice: what is occupied as an integer
    for instance, cells in zip(candidates.tolist(), _bits(masks[candidates]), strict=True):
        overlap, area = (cells & occupied).bit_count(), cells.bit_count()
        if area == 0 or overlap > config.overlap_threshold * area:
            continue
        claimed, label = masks[instance] & free, labels[instance]
        lanes[label] |= claimed
        np.copyto(lane_scores[label], mask_scores[instance], where=claimed)
        free ^= claimed
        occupied |= cells
    return lanes, lane_scores


def _bits(masks: NDArray[np.bool_]) -> list[int]:
    """Each mask as an integer with a bit for each cell: most are compared and passed over, fastest in this form."""
    packed = np.packbits(masks.reshape(len(masks), math.prod(masks.shape[1:])), axis=1)
    content, row = packed.tobytes(), packed.shape[1]
    return [int.from_bytes(content[start : start + row]) for start in range(0, len(content), row)]
