"""Which keys of an official UniAD config say what, and which values of the others this toolkit supports.

Every key under `model` belongs to one of three tables: `SETTINGS` fill the `ModelConfig`, `FIXED` must have the value
that the submodules implement, and `WITHOUT_EFFECT` only concern training and evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

EMBED, HEADS, FEEDFORWARD = 256, 8, 512
RESNET_OUTPUTS, STEM_STRIDE, STEM_CHANNELS = 4, 4, 256
"""Stages of a ResNet; image pixels a cell, and channels, of what its first stage gives. Both double with each."""
RESNET_STAGES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
NUSCENES_RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
REPORT_RANGE = [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]
VEHICLES = [0, 1, 2, 3, 4, 6, 7]
DETECTION_LAYER = ("self_attn", "norm", "cross_attn", "norm", "ffn", "norm")


class Absent:
    """Stands for a key that a config does not have, and for defaults that a config must not rely on."""


ABSENT: Final = Absent()


@dataclass(frozen=True)
class Setting:
    """A field of `ModelConfig` (or a value that is compared with others) and the official keys that state it.

    The reference reads the first key; the others are further statements of the same, which must agree. `defaults` are
    what the reference assumes for keys that are absent. `read` turns an official value into the field's, and raises
    ValueError with what it expects.
    """

    name: str
    read: Callable[[Any], Any]
    keys: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fixed:
    """Values that a key may have. Without `assumed`, what the reference assumes in its absence, it must be given."""

    values: tuple[Any, ...]
    assumed: Any = ABSENT


def lookup(values: Any, key: str) -> Any:
    """The value at a dotted key, with indices of lists; ABSENT if there is none."""
    for part in key.split("."):
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, list | tuple) and part.isdecimal() and int(part) < len(values):
            values = values[int(part)]
        else:
            return ABSENT
    return values


def integer(value: Any) -> int:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("a whole number")
    return value


def number(value: Any) -> float:
    """A finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError("a finite number")
    return float(value)


def numbers(count: int) -> Callable[[Any], tuple[float, ...]]:
    """Reader of `count` finite numbers."""

    def read(value: Any) -> tuple[float, ...]:
        if not isinstance(value, list | tuple) or len(value) != count:
            raise ValueError(f"{count} numbers")
        return tuple(number(item) for item in value)

    return read


def axis(index: int) -> Callable[[Any], tuple[float, ...]]:
    """Reader of one axis of a range given as three minima and three maxima."""
    return lambda value: numbers(6)(value)[index::3]


def labels(value: Any) -> tuple[int, ...]:
    """Class indices."""
    if not isinstance(value, list | tuple):
        raise ValueError("a list of class indices")
    return tuple(integer(item) for item in value)


def groups(value: Any) -> tuple[tuple[int, ...], ...]:
    """Groups of class indices."""
    if not isinstance(value, list | tuple):
        raise ValueError("a list of lists of class indices")
    return tuple(labels(item) for item in value)


def names(value: Any) -> tuple[str, ...]:
    """Printable names."""
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) and name.isprintable() for name in value):
        raise ValueError("a list of names")
    return tuple(value)


def true_or_false(value: Any) -> bool:
    """A truth value."""
    if not isinstance(value, bool):
        raise ValueError("True or False")
    return value


def flags(value: Any) -> tuple[bool, ...]:
    """Truth values."""
    if not isinstance(value, list | tuple):
        raise ValueError("a list of True and False")
    return tuple(true_or_false(item) for item in value)


def one_of(*options: Any) -> Callable[[Any], Any]:
    """Reader of one of these values."""

    def read(value: Any) -> Any:
        if value not in options:
            raise ValueError(" or ".join(map(repr, options)))
        return value

    return read


def is_given(value: Any) -> bool:
    """Whether there is a dict of further settings, or None."""
    if value is not None and not isinstance(value, dict):
        raise ValueError("a dict or None")
    return value is not None


def first_stride(value: Any) -> int:
    """Image pixels a cell of the first of the backbone's outputs, which are those of its last stages."""
    outputs = labels(value)
    if not outputs or outputs != tuple(range(outputs[0], RESNET_OUTPUTS)):
        raise ValueError(f"indices of the last stages, such as {tuple(range(1, RESNET_OUTPUTS))}")
    return int(STEM_STRIDE * 2 ** outputs[0])


def with_ego(value: Any) -> int:
    """Number of track queries including the ego's, which the official configs leave out."""
    return integer(value) + 1


def with_present(value: Any) -> int:
    """Number of occupancy steps including the present one, which the official configs leave out."""
    return integer(value) + 1


def stage_blocks(value: Any) -> tuple[int, ...]:
    """Blocks per stage of a ResNet of this depth."""
    if not isinstance(value, int) or value not in RESNET_STAGES:
        raise ValueError(" or ".join(map(str, RESNET_STAGES)))
    return RESNET_STAGES[value]


TRACK = "model.pts_bbox_head"
BEV_LAYERS = f"{TRACK}.transformer.encoder"
TRACK_LAYERS = f"{TRACK}.transformer.decoder"
SEG = "model.seg_head"
OCC = "model.occ_head"
MOTION = "model.motion_head"
PLAN = "model.planning_head"
LATER_HEADS = (OCC, MOTION, PLAN)
"""Heads that stage 2 adds."""

BOX_CODER, UNUSED_CODER = "model.bbox_coder", f"{TRACK}.bbox_coder"
"""The reference decodes boxes with a coder of the model itself; the track head's only tells it the range."""

RANGE_KEYS = (
    f"{UNUSED_CODER}.pc_range", "model.pc_range", f"{BOX_CODER}.pc_range", f"{BEV_LAYERS}.pc_range",
    f"{BEV_LAYERS}.transformerlayers.attn_cfgs.1.pc_range", f"{SEG}.pc_range", f"{MOTION}.pc_range",
    f"{MOTION}.transformerlayers.pc_range", f"{MOTION}.transformerlayers.transformerlayers.attn_cfgs.0.bev_range",
)  # fmt: skip
RANGE_DEFAULTS = {RANGE_KEYS[-1]: NUSCENES_RANGE}
BACKBONE, NECK = "model.img_backbone", "model.img_neck"
SPATIAL = f"{BEV_LAYERS}.transformerlayers.attn_cfgs.1.deformable_attention"
MAP_ATTENTIONS = (
    f"{SEG}.transformer.encoder.transformerlayers.attn_cfgs",
    f"{SEG}.transformer.decoder.transformerlayers.attn_cfgs.1",
)
CLASS_COUNT = "number of classes"
DEFORMABLE, NECK_INPUTS, EXTRA_LEVELS = "deformable convolutions", "inputs of the neck", "further levels"
OCCUPANCY_LAYERS, OCCUPANCY_X, OCCUPANCY_Y = "number of occupancy layers", "occupancy x", "occupancy y"
"""What is compared with other settings instead of filling a field of its own."""

SETTINGS = (
    Setting("class_names", names, ("class_names",)),
    Setting(CLASS_COUNT, integer, (f"{TRACK}.num_classes", "model.num_classes", f"{BOX_CODER}.num_classes",
            f"{UNUSED_CODER}.num_classes", f"{MOTION}.num_classes"),
            {"model.num_classes": 10}),
    Setting("image.stage_blocks", stage_blocks, (f"{BACKBONE}.depth",)),
    Setting("image.backbone_style", one_of("pytorch", "caffe"), (f"{BACKBONE}.style",),
            {f"{BACKBONE}.style": "pytorch"}),
    Setting("image.deformable_stages", flags, (f"{BACKBONE}.stage_with_dcn",),
            {f"{BACKBONE}.stage_with_dcn": (False,) * RESNET_OUTPUTS}),
    Setting(DEFORMABLE, is_given, (f"{BACKBONE}.dcn",), {f"{BACKBONE}.dcn": None}),
    Setting("image.stride", first_stride, (f"{BACKBONE}.out_indices",), {f"{BACKBONE}.out_indices": (0, 1, 2, 3)}),
    Setting(NECK_INPUTS, labels, (f"{NECK}.in_channels",)),
    Setting("image.levels", integer, (f"{NECK}.num_outs", f"{SPATIAL}.num_levels"), {f"{SPATIAL}.num_levels": 4}),
    Setting(EXTRA_LEVELS, one_of(False, True, "on_input", "on_lateral", "on_output"), (f"{NECK}.add_extra_convs",),
            {f"{NECK}.add_extra_convs": False}),
    Setting("bev.height", integer, (f"{TRACK}.bev_h", f"{TRACK}.positional_encoding.row_num_embed", f"{SEG}.bev_h",
            f"{SEG}.canvas_size.0", f"{OCC}.bev_size.0", f"{MOTION}.bev_h", f"{PLAN}.bev_h"),
            {f"{OCC}.bev_size.0": 200, f"{PLAN}.bev_h": 200}),
    Setting("bev.width", integer, (f"{TRACK}.bev_w", f"{TRACK}.positional_encoding.col_num_embed", f"{SEG}.bev_w",
            f"{SEG}.canvas_size.1", f"{OCC}.bev_size.1", f"{MOTION}.bev_w", f"{PLAN}.bev_w"),
            {f"{OCC}.bev_size.1": 200, f"{PLAN}.bev_w": 200}),
    Setting("bev.x_range", axis(0), RANGE_KEYS, RANGE_DEFAULTS),
    Setting("bev.y_range", axis(1), RANGE_KEYS, RANGE_DEFAULTS),
    Setting("bev.z_range", axis(2), RANGE_KEYS, RANGE_DEFAULTS),
    Setting("bev.layers", integer, (f"{BEV_LAYERS}.num_layers",)),
    Setting("bev.pillar_points", integer, (f"{BEV_LAYERS}.num_points_in_pillar",),
            {f"{BEV_LAYERS}.num_points_in_pillar": 4}),
    Setting("bev.temporal_points", integer, (f"{BEV_LAYERS}.transformerlayers.attn_cfgs.0.num_points",),
            {f"{BEV_LAYERS}.transformerlayers.attn_cfgs.0.num_points": 4}),
    Setting("bev.spatial_points", integer, (f"{SPATIAL}.num_points",), {f"{SPATIAL}.num_points": 8}),
    Setting("bev.rotate_center", numbers(2), (f"{TRACK}.transformer.rotate_center",),
            {f"{TRACK}.transformer.rotate_center": [100, 100]}),
    Setting("tracking.queries", with_ego, ("model.num_query", f"{TRACK}.num_query"), {"model.num_query": 900}),
    Setting("tracking.layers", integer, (f"{TRACK_LAYERS}.num_layers",)),
    Setting("tracking.birth_score", number, ("model.score_thresh",), {"model.score_thresh": 0.2}),
    Setting("tracking.keep_score", number, ("model.filter_score_thresh",), {"model.filter_score_thresh": 0.1}),
    Setting("tracking.miss_tolerance", integer, ("model.miss_tolerance",), {"model.miss_tolerance": 5}),
    Setting("tracking.memory_length", integer, ("model.mem_args.memory_bank_len",)),
    Setting("tracking.save_score", number, ("model.mem_args.memory_bank_score_thresh",)),
    Setting("tracking.max_reports", integer, (f"{BOX_CODER}.max_num", f"{UNUSED_CODER}.max_num"),
            {f"{BOX_CODER}.max_num": 300}),
    Setting("tracking.report_range", numbers(6),
            (f"{BOX_CODER}.post_center_range", f"{UNUSED_CODER}.post_center_range"),
            {f"{BOX_CODER}.post_center_range": REPORT_RANGE}),
    Setting("map.queries", integer, (f"{SEG}.num_query",)),
    Setting("map.encoder_layers", integer, (f"{SEG}.transformer.encoder.num_layers",)),
    Setting("map.decoder_layers", integer, (f"{SEG}.transformer.decoder.num_layers",)),
    Setting("map.attention_levels", integer, tuple(f"{attention}.num_levels" for attention in MAP_ATTENTIONS),
            {f"{attention}.num_levels": 4 for attention in MAP_ATTENTIONS}),
    Setting("map.thing_mask_layers", integer, (f"{SEG}.thing_transformer_head.num_decoder_layers",)),
    Setting("map.stuff_mask_layers", integer, (f"{SEG}.stuff_transformer_head.num_decoder_layers",)),
    Setting("map.max_instances", integer, (f"{SEG}.test_cfg.max_per_img",), {f"{SEG}.test_cfg.max_per_img": 100}),
    Setting("map.overlap_threshold", number, (f"{SEG}.overlap_threshold_things",),
            {f"{SEG}.overlap_threshold_things": 0.4}),
    Setting("motion.modes", integer, (f"{MOTION}.num_anchor", f"{MOTION}.predict_modes"), {f"{MOTION}.num_anchor": 6}),
    Setting("motion.steps", integer, (f"{MOTION}.predict_steps",
            f"{MOTION}.transformerlayers.transformerlayers.attn_cfgs.0.num_steps"), {f"{MOTION}.predict_steps": 12}),
    Setting("motion.layers", integer, (f"{MOTION}.transformerlayers.num_layers",)),
    Setting("motion.class_groups", groups, (f"{MOTION}.group_id_list",)),
    Setting("occupancy.vehicle_classes", labels, (f"{MOTION}.vehicle_id_list", "model.vehicle_id_list"),
            {f"{MOTION}.vehicle_id_list": VEHICLES}),
    Setting("occupancy.steps", with_present, (f"{OCC}.n_future",), {f"{OCC}.n_future": 4}),
    Setting("occupancy.resampled", true_or_false, (f"{OCC}.bevslicer",), {f"{OCC}.bevslicer": True}),
    Setting(OCCUPANCY_LAYERS, integer, (f"{OCC}.transformer_decoder.num_layers",)),
    Setting("occupancy.attention_threshold", number, (f"{OCC}.attn_mask_thresh",), {f"{OCC}.attn_mask_thresh": 0.5}),
    Setting("occupancy.score_threshold", number, (f"{OCC}.test_seg_thresh",), {f"{OCC}.test_seg_thresh": 0.5}),
    Setting(OCCUPANCY_X, numbers(3), (f"{OCC}.grid_conf.xbound",)),
    Setting(OCCUPANCY_Y, numbers(3), (f"{OCC}.grid_conf.ybound",)),
    Setting("planning.steps", integer, (f"{PLAN}.planning_steps",), {f"{PLAN}.planning_steps": 6}),
)  # fmt: skip


def under(prefix: str, **fixed: Fixed) -> dict[str, Fixed]:
    """Fixed keys with a common prefix."""
    return {f"{prefix}.{key}": value for key, value in fixed.items()}


def given(*values: Any) -> Fixed:
    """A key that must be given, because the reference would assume something else."""
    return Fixed(values)


def usual(value: Any, *others: Any) -> Fixed:
    """A key that may be absent: the reference then assumes the first value."""
    return Fixed((value, *others), value)


def attention(prefix: str, kind: str, **fixed: Fixed) -> dict[str, Fixed]:
    """A plain attention."""
    size = {"embed_dims": usual(EMBED), "num_heads": usual(HEADS)}
    return under(prefix, type=given(kind), **size, **fixed)


def deformable(prefix: str, *kinds: str, **fixed: Fixed) -> dict[str, Fixed]:
    """A deformable attention."""
    return under(prefix, type=given(*kinds), embed_dims=usual(EMBED), num_heads=usual(HEADS), **fixed)


ONE_LEVEL = {"num_levels": given(1)}


def layer(
    prefix: str, kind: str, order: tuple[str, ...] = DETECTION_LAYER, hidden: int = FEEDFORWARD
) -> dict[str, Fixed]:
    """A transformer layer without its attentions."""
    keys = {"feedforward_channels": given(hidden), "operation_order": given(order), "ffn_num_fcs": usual(2)}
    return under(prefix, type=given(kind), **keys)


FIXED = (
    under("model", type=given("UniAD"), embed_dims=usual(EMBED), upsample_if_tiny=usual(False))
    | under(BACKBONE, type=given("ResNet"), num_stages=usual(RESNET_OUTPUTS))
    | under(f"{BACKBONE}.dcn", type=usual("DCNv2"), deform_groups=usual(1), fallback_on_stride=usual(False))
    | {f"{BACKBONE}.norm_cfg.type": usual("BN", "BN2d", "SyncBN")}
    | under(NECK, type=given("FPN"), out_channels=given(EMBED), start_level=usual(0), end_level=usual(-1),
            norm_cfg=usual(None), act_cfg=usual(None))
    | under("model.qim_args", qim_type=given("QIMBase"), update_query_pos=given(True))
    | under("model.mem_args", memory_bank_type=given("MemoryBank"))
    | under(BOX_CODER, type=usual("DETRTrack3DCoder"), score_threshold=usual(0), with_nms=usual(False))
    | under(TRACK, type=given("BEVFormerTrackHead"), in_channels=usual(EMBED), with_box_refine=given(True),
            as_two_stage=usual(False), past_steps=usual(4), fut_steps=usual(4), num_cls_fcs=usual(2),
            num_reg_fcs=usual(2), code_size=usual(10))
    | under(f"{TRACK}.positional_encoding", type=given("LearnedPositionalEncoding"), num_feats=given(EMBED // 2))
    | under(f"{TRACK}.transformer", type=given("PerceptionTransformer", "PerceptionTransformerUniAD"),
            embed_dims=usual(EMBED), rotate_prev_bev=usual(True), use_shift=usual(True), use_can_bus=usual(True),
            can_bus_norm=usual(True), use_cams_embeds=usual(True), num_feature_levels=usual(4), num_cams=usual(6))
    | under(BEV_LAYERS, type=given("BEVFormerEncoder"), return_intermediate=usual(False))
    | layer(f"{BEV_LAYERS}.transformerlayers", "BEVFormerLayer")
    | deformable(f"{BEV_LAYERS}.transformerlayers.attn_cfgs.0", "TemporalSelfAttention", num_bev_queue=usual(2),
                 **ONE_LEVEL)
    | under(f"{BEV_LAYERS}.transformerlayers.attn_cfgs.1", type=given("SpatialCrossAttention"),
            embed_dims=usual(EMBED), num_cams=usual(6))
    | deformable(SPATIAL, "MSDeformableAttention3D")
    | under(TRACK_LAYERS, type=given("DetectionTransformerDecoder"), return_intermediate=given(True))
    | layer(f"{TRACK_LAYERS}.transformerlayers", "DetrTransformerDecoderLayer")
    | attention(f"{TRACK_LAYERS}.transformerlayers.attn_cfgs.0", "MultiheadAttention")
    | deformable(f"{TRACK_LAYERS}.transformerlayers.attn_cfgs.1", "CustomMSDeformableAttention", num_points=usual(4),
                 **ONE_LEVEL)
    | under(SEG, type=given("PansegformerHead"), num_things_classes=given(3), num_stuff_classes=given(1),
            num_classes=given(4), with_box_refine=given(True), as_two_stage=usual(False))
    | under(f"{SEG}.positional_encoding", type=given("SinePositionalEncoding"), num_feats=given(EMBED // 2),
            normalize=given(True), offset=given(-0.5), temperature=usual(10000))
    | under(f"{SEG}.transformer", type=given("SegDeformableTransformer"), num_feature_levels=usual(4))
    | under(f"{SEG}.transformer.encoder", type=given("DetrTransformerEncoder"))
    | layer(f"{SEG}.transformer.encoder.transformerlayers", "BaseTransformerLayer",
            ("self_attn", "norm", "ffn", "norm"))
    | deformable(MAP_ATTENTIONS[0], "MultiScaleDeformableAttention", "CustomMSDeformableAttention", num_points=usual(4))
    | under(f"{SEG}.transformer.decoder", type=given("DeformableDetrTransformerDecoder"),
            return_intermediate=given(True))
    | layer(f"{SEG}.transformer.decoder.transformerlayers", "DetrTransformerDecoderLayer")
    | attention(f"{SEG}.transformer.decoder.transformerlayers.attn_cfgs.0", "MultiheadAttention")
    | deformable(MAP_ATTENTIONS[1], "MultiScaleDeformableAttention", "CustomMSDeformableAttention", num_points=usual(4))
    | under(f"{SEG}.thing_transformer_head", type=given("SegMaskHead"), d_model=given(EMBED), nhead=given(HEADS),
            self_attn=usual(False))
    | under(f"{SEG}.stuff_transformer_head", type=given("SegMaskHead"), d_model=given(EMBED), nhead=given(HEADS),
            self_attn=given(True))
    | under(OCC, type=given("OccHead"), bev_proj_dim=given(EMBED), bev_proj_nlayers=given(4), bev_emb_dim=usual(EMBED),
            query_dim=usual(EMBED), query_mlp_layers=usual(3), temporal_mlp_layer=usual(2),
            test_with_track_score=given(True))
    | under(f"{OCC}.transformer_decoder", type=given("DetrTransformerDecoder"))
    | layer(f"{OCC}.transformer_decoder.transformerlayers", "DetrTransformerDecoderLayer", hidden=2048)
    | attention(f"{OCC}.transformer_decoder.transformerlayers.attn_cfgs", "MultiheadAttention",
                batch_first=usual(False))
    | under(f"{OCC}.transformer_decoder.transformerlayers.ffn_cfgs", type=usual("FFN"), embed_dims=given(EMBED),
            feedforward_channels=given(2048), num_fcs=usual(2), add_identity=usual(True))
    | {f"{OCC}.transformer_decoder.transformerlayers.ffn_cfgs.act_cfg.type": usual("ReLU")}
    | under(MOTION, type=given("MotionHead"), embed_dims=usual(EMBED), num_cls_fcs=given(3), det_layer_num=usual(6))
    | under(f"{MOTION}.transformerlayers", type=given("MotionTransformerDecoder"), embed_dims=usual(EMBED))
    | layer(f"{MOTION}.transformerlayers.transformerlayers", "MotionTransformerAttentionLayer",
            ("cross_attn", "norm", "ffn", "norm"))
    | deformable(f"{MOTION}.transformerlayers.transformerlayers.attn_cfgs.0", "MotionDeformableAttention",
                 num_points=usual(4), sample_index=usual(-1), **ONE_LEVEL)
    | under(PLAN, type=given("PlanningHeadSingleMode"), embed_dims=usual(EMBED), with_adapter=given(True))
)  # fmt: skip

WITHOUT_EFFECT = (
    "*.loss_*", "*.train_cfg*", "*.init_cfg*", "*dropout*", "*.attn_drop", "*.proj_drop", "*.ffn_drop", "*.inplace",
    "*.sync_cls_avg_factor", "*.code_weights*", "*.batch_first", "*.with_cp", "model.loss_cfg*", "model.pretrained*",
    "model.freeze_*", "model.gt_iou_threshold", "model.queue_length", "model.use_grid_mask", "model.video_test_mode",
    "model.trt_inference",
    "model.qim_args.fp_ratio", "model.qim_args.random_drop", f"{BACKBONE}.frozen_stages",
    f"{BACKBONE}.norm_eval", f"{BACKBONE}.norm_cfg.requires_grad", f"{NECK}.relu_before_extra_convs",
    f"{BOX_CODER}.iou_thres", f"{UNUSED_CODER}.type",
    f"{UNUSED_CODER}.voxel_size*", f"{UNUSED_CODER}.score_threshold", f"{SEG}.in_channels",
    f"{SEG}.quality_threshold_*", f"{SEG}.overlap_threshold_stuff", f"{OCC}.grid_conf.zbound*", f"{OCC}.ignore_index",
    f"{OCC}.receptive_field", f"{OCC}.spatial_extent*", f"{OCC}.detach_query_pos", f"{OCC}.sample_ignore_mode",
    f"{OCC}.aux_loss_weight", f"{OCC}.pan_eval", f"{OCC}.transformer_decoder.return_intermediate",
    f"{MOTION}.num_query", f"{MOTION}.use_nonlinear_optimizer", f"{MOTION}.anchor_info_path",
    f"{PLAN}.planning_eval", f"{PLAN}.use_col_optim", f"{PLAN}.col_optim_args*",
)  # fmt: skip
"""Patterns of keys that do not change what the deployed network computes.

Among them are some that the reference states but never reads, such as `quality_threshold_things`.
"""
