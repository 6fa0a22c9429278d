"""The image encoder as a plugin: camera images to image features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from toolkit.config.check import STAGE_STRIDES
from toolkit.config.size_rules import Shapes, SizeRule, layers, rows
from toolkit.hookspecs import hookimpl
from toolkit.specs import Submodule, TensorSpec, Tolerance

if TYPE_CHECKING:
    from torch import nn
    from torch.fx import GraphModule

    from toolkit.config.model import ModelConfig
    from toolkit.training.spec import Training

STAGES = len(STAGE_STRIDES)
OFFSETS = ".conv2.conv_offset.weight"
"""Ends the key of what a deformable convolution has and a plain one has not."""


def deformable_blocks(config: ModelConfig) -> int:
    """Blocks of the backbone whose 3x3 convolution is deformable."""
    image = config.image
    pairs = zip(image.stage_blocks, image.deformable_stages, strict=True)
    return sum(blocks for blocks, deformable in pairs if deformable)


def shown_deformable_blocks(shapes: Shapes) -> int:
    """Those of a checkpoint."""
    return sum(key.endswith(OFFSETS) for key in shapes)


def stage(index: int) -> SizeRule:
    """The blocks of one stage of the image backbone."""
    prefix = f"img_backbone.layer{index + 1}."
    return layers(f"image.stage_blocks[{index}]", lambda config: config.image.stage_blocks[index], prefix)


def build(config: ModelConfig) -> nn.Module:
    """The image encoder with weights to be loaded."""
    from plugins.image_encoder.model import ImageEncoder

    return ImageEncoder(config)


def training() -> Training:
    """How it is trained."""
    from plugins.image_encoder.training import TRAINING

    return TRAINING


def gpu_rewrites() -> Sequence[Callable[[GraphModule], int]]:
    """Deformable convolutions become products, whose operators know the session's precisions."""
    from custom_ops.modulated_deformable_convolution.product import convolve_samples

    return (convolve_samples,)


SIZES = (
    rows("image.base_channels", lambda config: config.image.base_channels, "img_backbone.conv1.weight"),
    *map(stage, range(STAGES)),
    SizeRule("blocks in image.deformable_stages", deformable_blocks, f"*{OFFSETS}", shown_deformable_blocks),
    layers("stages of image.stride", lambda c: STAGES - STAGE_STRIDES.index(c.image.stride), "img_neck.lateral_convs."),
    layers("image.levels", lambda c: c.image.levels, "img_neck.fpn_convs."),
)

SUBMODULE = Submodule(
    name="image_encoder",
    checkpoint_prefixes=("img_backbone.", "img_neck."),
    inputs=("image",),
    outputs=(
        TensorSpec(
            "image_features",
            ("cameras", "embed", "feature_height", "feature_width"),
            "float32",
            "one feature map per camera, in the camera order of the config; those of several levels as one row of "
            "cells, finest first",
            tolerance=Tolerance(norm=1e-4),
        ),
    ),
    build=build,
    training=training,
    sizes=SIZES,
    gpu_rewrites=gpu_rewrites,
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """The image encoder."""
    return (SUBMODULE,)
