"""Model configs in the style of the official ones: same keys and values, written for these tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

SHARED = """
\"\"\"A camera-only driving model.\"\"\"
_base_ = ["../_base_/datasets/nus-3d.py", "../_base_/default_runtime.py"]

dim = 256
bev_rows = bev_columns = 50
levels = 1
area = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
report_area = [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]
class_names = ["car", "truck", "construction_vehicle", "bus", "trailer"] + [
    "barrier", "motorcycle", "bicycle", "pedestrian", "traffic_cone"]
class_count = len(class_names)
norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

six_steps = ("self_attn", "norm", "cross_attn", "norm", "ffn", "norm")
mutual = dict(type="MultiheadAttention", embed_dims=dim, num_heads=8, dropout=0.1)
hidden = dict(feedforward_channels=2 * dim, ffn_dropout=0.1)
map_attention = dict(type="MultiScaleDeformableAttention", embed_dims=dim, num_levels=levels)

tracker = dict(
    type="BEVFormerTrackHead", bev_h=bev_rows, bev_w=bev_columns, num_query=900, num_classes=class_count,
    in_channels=dim, with_box_refine=True, as_two_stage=False, past_steps=4, fut_steps=4,
    transformer=dict(
        type="PerceptionTransformer", rotate_prev_bev=True, use_shift=True, use_can_bus=True, embed_dims=dim,
        encoder=dict(
            type="BEVFormerEncoder", num_layers=3, pc_range=area, num_points_in_pillar=4, return_intermediate=False,
            transformerlayers=dict(
                type="BEVFormerLayer", operation_order=six_steps, **hidden,
                attn_cfgs=[
                    dict(type="TemporalSelfAttention", embed_dims=dim, num_levels=1),
                    dict(type="SpatialCrossAttention", pc_range=area, embed_dims=dim, deformable_attention=dict(
                        type="MSDeformableAttention3D", embed_dims=dim, num_points=8, num_levels=levels)),
                ])),
        decoder=dict(
            type="DetectionTransformerDecoder", num_layers=6, return_intermediate=True,
            transformerlayers=dict(
                type="DetrTransformerDecoderLayer", operation_order=six_steps, **hidden,
                attn_cfgs=[mutual, dict(type="CustomMSDeformableAttention", embed_dims=dim, num_levels=1)]))),
    bbox_coder=dict(type="NMSFreeCoder", post_center_range=report_area, pc_range=area, max_num=300,
                    num_classes=class_count),
    positional_encoding=dict(type="LearnedPositionalEncoding", num_feats=dim // 2, row_num_embed=bev_rows,
                             col_num_embed=bev_columns),
    loss_bbox=dict(type="L1Loss", loss_weight=1.0 / 4),
)
mapper = dict(
    type="PansegformerHead", bev_h=bev_rows, bev_w=bev_columns, canvas_size=(bev_rows, bev_columns), pc_range=area,
    num_query=300, num_classes=4, num_things_classes=3, num_stuff_classes=1, in_channels=2048, with_box_refine=True,
    transformer=dict(
        type="SegDeformableTransformer",
        encoder=dict(type="DetrTransformerEncoder", num_layers=6, transformerlayers=dict(
            type="BaseTransformerLayer", attn_cfgs=map_attention, operation_order=("self_attn", "norm", "ffn", "norm"),
            **hidden)),
        decoder=dict(
            type="DeformableDetrTransformerDecoder", num_layers=6, return_intermediate=True,
            transformerlayers=dict(type="DetrTransformerDecoderLayer", attn_cfgs=[mutual, map_attention],
                                   operation_order=six_steps, **hidden))),
    positional_encoding=dict(type="SinePositionalEncoding", num_feats=dim // 2, normalize=True, offset=-0.5),
    thing_transformer_head=dict(type="SegMaskHead", d_model=dim, nhead=8, num_decoder_layers=4),
    stuff_transformer_head=dict(type="SegMaskHead", d_model=dim, nhead=8, num_decoder_layers=6, self_attn=True),
    loss_mask=dict(type="DiceLoss", loss_weight=2.0),
)
model = dict(
    type="UniAD", num_query=900, num_classes=class_count, pc_range=area, score_thresh=0.4, filter_score_thresh=0.35,
    video_test_mode=True, use_grid_mask=True, queue_length=3,
    img_backbone=dict(type="ResNet", depth=50, num_stages=4, out_indices=(3,), frozen_stages=1, norm_eval=True,
                      norm_cfg=dict(type="BN", requires_grad=False), style="pytorch"),
    img_neck=dict(type="FPN", in_channels=[2048], out_channels=dim, start_level=0, num_outs=levels,
                  add_extra_convs="on_output", relu_before_extra_convs=True),
    qim_args=dict(qim_type="QIMBase", merger_dropout=0, update_query_pos=True, fp_ratio=0.3, random_drop=0.1),
    mem_args=dict(memory_bank_type="MemoryBank", memory_bank_score_thresh=0.0, memory_bank_len=4),
    loss_cfg=dict(type="ClipMatcher", num_classes=class_count),
    pts_bbox_head=tracker, seg_head=mapper,
)
info_root = "data/infos/"
test_pipeline = [
    dict(type="LoadMultiViewImageFromFilesInCeph", to_float32=True),
    dict(type="NormalizeMultiviewImage", **norm),
    dict(type="MultiScaleFlipAug3D", img_scale=(1600, 900), flip=False, transforms=[
        dict(type="RandomScaleImageMultiViewImage", scales=[0.25]),
        dict(type="PadMultiViewImage", size_divisor=32),
        dict(type="CustomCollect3D", keys=["img", "timestamp", "l2g_r_mat", "l2g_t", "command"]),
    ]),
]
data = dict(test=dict(ann_file=info_root + f"nuscenes_infos_{'val'}.pkl", pipeline=test_pipeline))
"""

LATER_HEADS = """
horizons = [4, 6]
longest_horizon = max(horizons)
forecast_steps = 2 * longest_horizon
vehicle_id_list = [0, 1, 2, 3, 4, 6, 7]
occupancy_attention = dict(type="MultiheadAttention", embed_dims=dim, num_heads=8, batch_first=False)
occ_head = dict(
    type="OccHead", grid_conf={"xbound": [-12.5, 12.5, 0.5], "ybound": [-12.5, 12.5, 0.5], "zbound": [-10, 10, 20]},
    bev_proj_dim=dim, bev_proj_nlayers=4, bev_size=(bev_rows, bev_columns), bevslicer=False, attn_mask_thresh=0.3,
    query_dim=dim, query_mlp_layers=3, test_seg_thresh=0.1, test_with_track_score=True, pan_eval=True,
    transformer_decoder=dict(
        type="DetrTransformerDecoder", num_layers=horizons[0] + 1, return_intermediate=True, init_cfg=None,
        transformerlayers=dict(
            type="DetrTransformerDecoderLayer", attn_cfgs=occupancy_attention, feedforward_channels=2048,
            ffn_cfgs=dict(embed_dims=dim, feedforward_channels=2048, num_fcs=2, add_identity=True,
                          act_cfg=dict(type="ReLU", inplace=True)),
            operation_order=six_steps)),
)
motion_head = dict(
    type="MotionHead", bev_h=bev_rows, bev_w=bev_columns, num_query=300, num_classes=class_count, num_anchor=6,
    predict_steps=forecast_steps, predict_modes=6, embed_dims=dim, num_cls_fcs=3, pc_range=area,
    group_id_list=[[0, 1, 2, 3, 4], [6, 7], [8], [5, 9]], anchor_info_path="data/others/anchors.pkl",
    transformerlayers=dict(
        type="MotionTransformerDecoder", pc_range=area, embed_dims=dim, num_layers=3,
        transformerlayers=dict(
            type="MotionTransformerAttentionLayer", batch_first=True,
            attn_cfgs=[dict(type="MotionDeformableAttention", num_steps=forecast_steps, embed_dims=dim, num_levels=1,
                            num_heads=8, num_points=4, sample_index=-1)],
            operation_order=("cross_attn", "norm", "ffn", "norm"), **hidden)),
)
planning_head = dict(
    type="PlanningHeadSingleMode", bev_h=bev_rows, bev_w=bev_columns, embed_dims=dim, planning_steps=6,
    use_col_optim=True, with_adapter=True, loss_planning=dict(type="PlanningLoss"),
)
model = dict(**model, vehicle_id_list=vehicle_id_list, occ_head=occ_head, motion_head=motion_head,
             planning_head=planning_head)
"""

DEPLOYED_TYPES = (
    "BEVFormerTrackHead", "BEVFormerEncoder", "BEVFormerLayer", "TemporalSelfAttention", "SpatialCrossAttention",
    "MSDeformableAttention3D", "DetectionTransformerDecoder", "CustomMSDeformableAttention", "PansegformerHead",
    "MultiScaleDeformableAttention", "OccHead", "MotionHead", "MotionTransformerDecoder",
    "MotionTransformerAttentionLayer", "MotionDeformableAttention", "PlanningHeadSingleMode",
)  # fmt: skip

STAGE1 = SHARED
STAGE2 = SHARED + LATER_HEADS
BASE_CHANGES = {
    "bev_columns = 50": "bev_columns = 200",
    "levels = 1\n": "levels = 4\n",
    "mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True": (
        "mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False"
    ),
    'type="BEVFormerEncoder", num_layers=3': 'type="BEVFormerEncoder", num_layers=6',
    "depth=50, num_stages=4, out_indices=(3,), frozen_stages=1": (
        "depth=101, num_stages=4, out_indices=(1, 2, 3), frozen_stages=4, stage_with_dcn=(False, False, True, True),\n"
        '                      dcn=dict(type="DCNv2", deform_groups=1, fallback_on_stride=False)'
    ),
    'dict(type="BN", requires_grad=False), style="pytorch"': 'dict(type="BN2d", requires_grad=False), style="caffe"',
    "in_channels=[2048]": "in_channels=[512, 1024, 2048]",
    """    dict(type="NormalizeMultiviewImage", **norm),
""": """    dict(type="NormalizeMultiviewImage", **norm),
    dict(type="PadMultiViewImage", size_divisor=32),
    dict(type="LoadAnnotations3D_E2E", with_bbox_3d=False, with_future_anns=True),
    dict(type="GenerateOccFlowLabels", ignore_index=255, only_vehicle=True, filter_invisible=False),
""",
    """        dict(type="RandomScaleImageMultiViewImage", scales=[0.25]),
        dict(type="PadMultiViewImage", size_divisor=32),
""": """        dict(type="DefaultFormatBundle3D", class_names=class_names, with_label=False),
""",
}
"""What UniAD-base says otherwise than UniAD-tiny; and in its later heads:"""
BASE_HEAD_CHANGES = {
    '"xbound": [-12.5, 12.5, 0.5], "ybound": [-12.5, 12.5, 0.5]': (
        '"xbound": [-50.0, 50.0, 0.5], "ybound": [-50.0, 50.0, 0.5]'
    ),
    " bev_size=(bev_rows, bev_columns), bevslicer=False,": "",
    '"PlanningHeadSingleMode", bev_h=bev_rows, bev_w=bev_columns,': '"PlanningHeadSingleMode",',
}


def changed(text: str, changes: Mapping[str, str]) -> str:
    """The text with each of these, which are in it once, replaced."""
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


BASE_STAGE1 = changed(STAGE1, BASE_CHANGES)
BASE_STAGE2 = changed(STAGE2, BASE_CHANGES | BASE_HEAD_CHANGES)
DEPLOYMENT = re.sub(f'type="({"|".join(DEPLOYED_TYPES)})"', r'type="\1TRTP"', STAGE2).replace(
    'type="UniAD"', 'type="UniADTRT"'
)


def write_config(folder: Path, text: str = STAGE2, **changes: str) -> Path:
    """The config as a file. `changes` follow it as further assignments: ``model="dict(model, num_query=9)"``."""
    path = folder / "config.py"
    path.write_text(text + "".join(f"{name} = {value}\n" for name, value in changes.items()))
    return path
