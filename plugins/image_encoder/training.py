"""How the image encoder is trained: its neck, in the first stage, on a backbone that stays as it is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from plugins.image_encoder.grid_mask import grid_mask
from plugins.image_encoder.model import ImageEncoder
from toolkit.training.spec import Moment, Option, Step, Training

FREEZE_BACKBONE, GRID_MASK = "freeze_img_backbone", "grid_mask_probability"


def step(module: nn.Module, moment: Moment) -> Step:
    """Features of the images, in training mode of some that a grid hides in part."""
    image = moment.tensors["image"]
    if module.training and torch.rand(()) < moment.options[GRID_MASK]:
        image = grid_mask(image)
    return Step({"image_features": module(image)})


def prepare(module: nn.Module, stage: int, options: Mapping[str, Option]) -> None:
    """Freeze the backbone, unless it is to be trained, with its batch statistics, and in the second stage all."""
    assert isinstance(module, ImageEncoder)
    if stage > 1:
        module.eval().requires_grad_(False)
    elif options[FREEZE_BACKBONE]:
        module.img_backbone.eval().requires_grad_(False)


TRAINING = Training(step, prepare=prepare, options={FREEZE_BACKBONE: True, GRID_MASK: 0.7})
