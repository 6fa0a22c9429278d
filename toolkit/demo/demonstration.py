"""What is demonstrated: a model with its weights, and the drive that it is shown on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path

from toolkit.config.file import load_config
from toolkit.config.model import ModelConfig
from toolkit.demo.pseudo_weights import write_pseudo_weights
from toolkit.demo.trained import copy_trained_weights, trained_config
from toolkit.demo.variant import Variant
from toolkit.specs import Submodule
from toolkit.synthetic.dataset import DriveSettings

KEYFRAMES = 8
"""Fewer have no frame with all that is judged before and after it."""
SCALE, SIDE = 0.25, 40
"""Of the pictures of UniAD-base, and cells along a side of its BEV, as they are demonstrated."""
SCENE_KEYFRAMES, SHOWN = 40, 16
"""Of a scene that the small network was trained on, as long as it was then: its traffic goes by that. And of these, how
many are shown."""
WeightsInto = Callable[[Path, Sequence[Submodule], ModelConfig], tuple[Path, Path]]
"""Write a checkpoint and motion anchors into a folder; gives their paths."""


@dataclass(frozen=True)
class Demonstration:
    """A model, its weights, and a drive whose pictures have the size that it takes; the first `frames` of it are run.

    `source` says what the weights are, after a verb.
    """

    config: ModelConfig
    weights: WeightsInto
    source: str
    drive: DriveSettings
    frames: int = KEYFRAMES


def demonstration(variant: Variant) -> Demonstration:
    """The demonstration of a network."""
    if variant is Variant.MINI:
        drive = DriveSettings(scenes=1, keyframes=SCENE_KEYFRAMES, image_scale=SCALE)
        return Demonstration(
            trained_config(),
            lambda folder, *_: copy_trained_weights(folder),
            "the small network's weights",
            drive,
            SHOWN,
        )
    if variant is Variant.TINY:
        drive = DriveSettings(scenes=1, keyframes=KEYFRAMES)
        return Demonstration(ModelConfig(), write_pseudo_weights, "pseudo-trained weights", drive)
    with as_file(files("configs") / "uniad_base_stage2.toml") as path:
        published = load_config(path)
    drive = DriveSettings(scenes=1, keyframes=KEYFRAMES, image_scale=SCALE)
    return Demonstration(reduced(published), write_pseudo_weights, "pseudo-trained weights", drive)


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
