"""What is demonstrated: a published network, and a drive whose pictures have the size that it takes."""

from __future__ import annotations

import pytest

from toolkit.config.check import check_values
from toolkit.config.model import ModelConfig
from toolkit.demo.demonstration import demonstration
from toolkit.demo.variant import Variant
from toolkit.synthetic.sensors.rig import scaled_cameras


@pytest.mark.parametrize("variant", Variant)
def test_pictures_of_the_drive_have_the_size_that_the_model_takes(variant: Variant) -> None:
    shown = demonstration(variant)
    image = shown.config.image
    check_values(shown.config)
    sizes = {camera.size for camera in scaled_cameras(shown.drive.image_scale)}
    assert sizes == {(image.source_width, image.source_height)}


def test_tiny_is_as_published() -> None:
    assert demonstration(Variant.TINY).config == ModelConfig()


def test_base_has_fewer_pixels_and_cells_alone() -> None:
    """All layers and ranges are those of the published network; feature levels follow from the picture."""
    config = demonstration(Variant.BASE).config
    assert config.image.features == ((32, 52), (16, 26), (8, 13), (4, 7))
    assert (config.image.stage_blocks, config.bev.layers, config.map.attention_levels) == ((3, 4, 23, 3), 6, 4)
    assert config.bev.rotate_center == (config.bev.width / 2, config.bev.height / 2)
    assert config.occupancy.cell_metres * config.bev.width == 100
