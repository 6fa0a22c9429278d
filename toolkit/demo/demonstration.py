"""What is demonstrated: a model, and the drive that it is shown on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.resources import as_file, files

from toolkit.config.file import load_config
from toolkit.config.model import ModelConfig
from toolkit.demo.variant import Variant
from toolkit.synthetic.dataset import DriveSettings

KEYFRAMES = 8
"""Fewer have no frame with all that is judged before and after it."""
SCALE, SIDE = 0.25, 40
"""Of the pictures of UniAD-base, and cells along a side of its BEV, as they are demonstrated."""


@dataclass(frozen=True)
class Demonstration:
    """A model and a drive whose pictures have the size that it takes."""

    config: ModelConfig
    drive: DriveSettings


def demonstration(variant: Variant) -> Demonstration:
    """The demonstration of a network."""
    if variant is Variant.TINY:
        return Demonstration(ModelConfig(), DriveSettings(scenes=1, keyframes=KEYFRAMES))
    with as_file(files("configs") / "uniad_base_stage2.toml") as path:
        published = load_config(path)
    return Demonstration(reduced(published), DriveSettings(scenes=1, keyframes=KEYFRAMES, image_scale=SCALE))


def reduced(config: ModelConfig) -> ModelConfig:
    """The model with all its layers and ranges, over fewer pixels and larger cells."""
    image, bev, occupancy = config.image, config.bev, config.occupancy
    width, height = int(image.source_width * SCALE), int(image.source_height * SCALE)
    return replace(
        config,
        image=replace(image, source_width=width, source_height=height),
        bev=replace(bev, height=SIDE, width=SIDE, rotate_center=(SIDE / 2, SIDE / 2)),
        occupancy=replace(occupancy, cell_metres=occupancy.cell_metres * bev.width / SIDE),
    )
