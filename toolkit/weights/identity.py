"""Which model and training stage a checkpoint is from."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from toolkit.config.model import ModelConfig

SIZES = {50 * 50: "tiny", 150 * 150: "small", 200 * 200: "base"}
"""Cells of the bird's-eye view -> published variant of BEVFormer and UniAD."""

BEV = "pts_bbox_head.bev_embedding.weight"
DETECTION_QUERIES = "pts_bbox_head.query_embedding.weight"
TRACK_QUERIES = "query_embedding.weight"
MAP_HEAD = "seg_head"
STAGE_2_HEADS = ("motion_head", "occ_head", "planning_head")
CONFIGURED = ("tiny", "base")
"""Variants of UniAD for which the toolkit has configurations."""


def identify(entries: Mapping[str, Tensor]) -> str:
    """Which model and training stage a checkpoint with these entries is from, or "other"."""
    if BEV not in entries or entries[BEV].ndim != 2:
        return "other"
    cells = len(entries[BEV])
    size = SIZES.get(cells, f"variant with {cells} BEV cells")
    heads = {key.partition(".")[0] for key in entries}
    tracks = TRACK_QUERIES in entries
    if tracks and heads.intersection(STAGE_2_HEADS):
        absent = [head for head in (MAP_HEAD, *STAGE_2_HEADS) if head not in heads]
        return f"UniAD-{size}, stage 2 (end to end)" + (f" without {', '.join(absent)}" if absent else "")
    if tracks and MAP_HEAD in heads:
        return f"UniAD-{size}, stage 1 (tracking and map)"
    if DETECTION_QUERIES in entries:
        return f"BEVFormer-{size}" + (", prepared for stage 1" if tracks else "")
    return "other"


def fitting_config(entries: Mapping[str, Tensor], config: ModelConfig) -> str | None:
    """The toolkit's own configuration for a checkpoint of another published variant of UniAD than `config` is."""
    if BEV not in entries or TRACK_QUERIES not in entries:
        return None
    size = SIZES.get(len(entries[BEV]))
    if size not in CONFIGURED or size == SIZES.get(config.bev.cells):
        return None
    stage = 2 if any(key.startswith(STAGE_2_HEADS) for key in entries) else 1
    return f"configs/uniad_{size}_stage{stage}.toml"
