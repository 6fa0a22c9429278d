"""How the image encoder is trained: its neck, in the first stage, on a backbone that stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from plugins.image_encoder.grid_mask import grid_mask
from plugins.image_encoder.model import DeformableConv2d, ImageEncoder
from toolkit.nn.initial import xavier_matrices
from toolkit.training.spec import Moment, Option, Step, Training

FREEZE_BACKBONE, GRID_MASK = "freeze_img_backbone", "grid_mask_probability"


VALUES_TOGETHER = {"cuda": 1 << 24}
"""By type of device, how many values of pictures go through the network at once: those of all frames of UniAD-tiny's
clips, but one frame of UniAD-base's. Elsewhere frame after frame, for nothing is gained."""


def step(module: nn.Module, moment: Moment) -> Step:
    """Features of the images, in training mode of some that a grid hides in part."""
    return together(module, [moment])[0]


def together(module: nn.Module, moments: Sequence[Moment]) -> Sequence[Step]:
    """The same for several frames."""
    images = [seen(module, moment) for moment in moments]
    count = max(1, VALUES_TOGETHER.get(images[0].device.type, 1) // images[0].numel())
    features: list[Tensor] = []
    for first in range(0, len(images), count):
        batch = images[first : first + count]
        (of_batch,) = moments[0].calls(encoded, module, torch.cat(batch))
        features += of_batch.split([len(each) for each in batch])
    return [Step({"image_features": each}) for each in features]


def encoded(module: nn.Module, images: Tensor) -> tuple[Tensor]:
    """Features of pictures [N, 3, H, W]."""
    return (module(images),)


def seen(module: nn.Module, moment: Moment) -> Tensor:
    """The images of a frame, some of them behind a grid if the module is in training mode."""
    image = moment.tensors["image"]
    return grid_mask(image) if module.training and torch.rand(()) < moment.options[GRID_MASK] else image


def prepare(module: nn.Module, stage: int, options: Mapping[str, Option]) -> None:
    """Freeze the backbone, unless it is to be trained, with its batch statistics, and in the second stage all."""
    assert isinstance(module, ImageEncoder)
    if stage > 1:
        module.eval().requires_grad_(False)
    elif options[FREEZE_BACKBONE]:
        module.img_backbone.eval().requires_grad_(False)


def initialise(module: nn.Module) -> None:
    """A backbone that nobody has trained, and the neck. Deformable convolutions begin as plain ones."""
    assert isinstance(module, ImageEncoder)
    for part in module.img_backbone.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
    for part in module.img_backbone.modules():
        if isinstance(part, DeformableConv2d):
            for parameter in part.conv_offset.parameters():
                nn.init.zeros_(parameter)
    xavier_matrices(module.img_neck)


def compiled(module: nn.Module) -> list[nn.Module]:
    """Backbone and neck."""
    assert isinstance(module, ImageEncoder)
    return [module]


TRAINING = Training(
    step,
    prepare=prepare,
    by_frame=True,
    together=together,
    compiled=compiled,
    initialise=initialise,
    options={FREEZE_BACKBONE: True, GRID_MASK: 0.7},
)
