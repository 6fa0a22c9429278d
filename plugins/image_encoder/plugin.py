"""The image encoder as a plugin: camera images to image features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit.config.size_rules import SizeRule, layers
from toolkit.hookspecs import hookimpl
from toolkit.specs import Submodule, TensorSpec, Tolerance

if TYPE_CHECKING:
    from torch import nn

    from toolkit.config.model import ModelConfig
    from toolkit.training.spec import Training

STAGES = 4


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


SUBMODULE = Submodule(
    name="image_encoder",
    checkpoint_prefixes=("img_backbone.", "img_neck."),
    inputs=("image",),
    outputs=(
        TensorSpec(
            "image_features",
            ("cameras", "embed", "feature_height", "feature_width"),
            "float32",
            "one feature map per camera, in the camera order of the config; a cell covers 32x32 image pixels",
            tolerance=Tolerance(norm=1e-4),
        ),
    ),
    build=build,
    training=training,
    sizes=tuple(map(stage, range(STAGES))),
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """The image encoder."""
    return (SUBMODULE,)
