"""Small models of the Hugging Face library, with random weights, that hold deformable attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn

Case = tuple[nn.Module, tuple[Tensor, ...]]
Family = Callable[[], Case]


class Outputs(nn.Module):
    """A model that takes an image alone and returns some of its outputs."""

    def __init__(self, model: nn.Module, *names: str) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        outputs = self.model(pixel_values=image)
        return tuple(getattr(outputs, name) for name in self.names)


def deformable_detr() -> Case:
    """Two encoder and two decoder layers with an attention over four levels each."""
    config = transformers.DeformableDetrConfig(
        backbone_config=transformers.ResNetConfig(**RESNET),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=10,
        num_feature_levels=4,
    )
    return detector(transformers.DeformableDetrForObjectDetection(config), height=96, width=128)


def rt_detr() -> Case:
    config = transformers.RTDetrConfig(backbone_config=transformers.RTDetrResNetConfig(**RESNET), **REAL_TIME)
    return detector(transformers.RTDetrForObjectDetection(config))


def rt_detr_v2() -> Case:
    config = transformers.RTDetrV2Config(backbone_config=transformers.RTDetrResNetConfig(**RESNET), **REAL_TIME)
    return detector(transformers.RTDetrV2ForObjectDetection(config))


def d_fine(points: int | list[int] = 4) -> Case:
    backbone = transformers.HGNetV2Config(**HGNET)
    config = transformers.DFineConfig(backbone_config=backbone, decoder_n_points=points, **REAL_TIME)
    return detector(transformers.DFineForObjectDetection(config))


def lw_detr() -> Case:
    config = transformers.LwDetrConfig(backbone_config=transformers.LwDetrViTConfig(**WINDOWED), **LIGHT)
    return detector(transformers.LwDetrForObjectDetection(config))


def mask2former() -> Case:
    """Deformable attention in the pixel decoder, over three levels."""
    config = transformers.Mask2FormerConfig(
        backbone_config=transformers.SwinConfig(**SWIN),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        encoder_layers=2,
        decoder_layers=2,
        num_attention_heads=4,
        dim_feedforward=32,
        num_queries=8,
    )
    model = transformers.Mask2FormerForUniversalSegmentation(config)
    return shaken(Outputs(model, "class_queries_logits", "masks_queries_logits")), (torch.rand(1, 3, 128, 128),)


def detector(model: nn.Module, height: int = 64, width: int = 64) -> Case:
    """A detector and an image for it."""
    return shaken(Outputs(model, "logits", "pred_boxes")), (torch.rand(1, 3, height, width),)


def shaken(model: nn.Module) -> nn.Module:
    """The model with noise on all weights: offsets of an untrained attention do not depend on its queries."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return model.eval()


RESNET: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 16, 32],
    "depths": [1, 1, 1, 1],
    "out_features": ["stage2", "stage3", "stage4"],
    "layer_type": "basic",
}
HGNET: dict[str, Any] = {
    "hidden_sizes": [8, 16, 16, 32],
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 8, 16, 16],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [8, 16, 16, 32],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_downsample": [False, True, True, True],
    "stage_light_block": [False, False, True, True],
    "stage_kernel_size": [3, 3, 5, 5],
    "stage_numb_of_layers": [2, 2, 2, 2],
    "out_features": ["stage2", "stage3", "stage4"],
}
REAL_TIME: dict[str, Any] = {
    "d_model": 32,
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [16, 16, 32],
    "encoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_in_channels": [32, 32, 32],
    "decoder_ffn_dim": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "feat_strides": [8, 16, 32],
    "num_feature_levels": 3,
    "num_queries": 10,
    "hidden_expansion": 1.0,
    "anchor_image_size": [64, 64],
}
SWIN: dict[str, Any] = {
    "image_size": 64,
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 2,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
WINDOWED: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "pretrain_image_size": 64,
    "patch_size": 16,
    "num_windows": 4,
    "window_block_indices": [0],
    "out_indices": [1, 2],
}
LIGHT: dict[str, Any] = {
    "projector_scale_factors": [2.0, 0.5],
    "d_model": 32,
    "decoder_ffn_dim": 32,
    "decoder_layers": 2,
    "decoder_self_attention_heads": 2,
    "decoder_cross_attention_heads": 4,
    "decoder_n_points": 2,
    "num_queries": 10,
    "group_detr": 1,
    "num_labels": 5,
}
