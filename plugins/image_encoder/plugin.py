"""The image encoder as a plugin: camera images to image features."""

from __future__ import annotations

from collections.abc import Sequence

from plugins.image_encoder.model import ImageEncoder
from toolkit.hookspecs import hookimpl
from toolkit.specs import Submodule, TensorSpec, frame_input

SUBMODULE = Submodule(
    name="image_encoder",
    checkpoint_prefixes=("img_backbone.", "img_neck."),
    inputs=(frame_input("image"),),
    outputs=(
        TensorSpec(
            "image_features",
            ("cameras", "embed", "feature_height", "feature_width"),
            "float32",
            "one feature map per camera, in the camera order of the config; a cell covers 32x32 image pixels",
        ),
    ),
    build=ImageEncoder,
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """The image encoder."""
    return (SUBMODULE,)
