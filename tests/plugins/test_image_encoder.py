"""The image encoder: ResNet-50 and its single-level feature pyramid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from plugins.image_encoder.model import Bottleneck, ImageEncoder
from plugins.image_encoder.plugin import SUBMODULE
from tests.joined import inputs_of
from toolkit.config.model import ImageConfig, ModelConfig

SMALL = ModelConfig(embed=16, image=ImageConfig(cameras=("front", "back"), scale=0.04, stage_blocks=(1, 1, 1, 1)))


def test_backbone_and_neck_match_the_reference(
    build_submodule: Callable[..., nn.Module], frame_inputs_a: list[dict[str, np.ndarray]], close: Callable[..., None]
) -> None:
    encoder = build_submodule(SUBMODULE)
    assert isinstance(encoder, ImageEncoder)
    stage4 = encoder.img_backbone(torch.from_numpy(frame_inputs_a[2]["img"][0]))
    close("img_backbone.out.0", stage4)
    close("img_neck.out.0", encoder.img_neck(stage4))


def test_stride_is_on_the_3x3_convolution() -> None:
    block = Bottleneck(inputs=64, width=32, stride=2)
    assert block.conv1.stride == (1, 1)
    assert block.conv2.stride == (2, 2)


def test_each_camera_is_encoded_on_its_own() -> None:
    encoder = SUBMODULE.build(SMALL).eval()
    images = torch.randn(2, 3, *SMALL.image.padded)
    torch.testing.assert_close(encoder(images)[1:], encoder(images[1:]), rtol=1e-4, atol=1e-4)


@pytest.mark.converts
def test_exports_with_the_shapes_of_its_specs() -> None:
    dimensions = SMALL.dimensions()
    images: Any = torch.from_numpy(inputs_of(SUBMODULE)[0].zeros(dimensions))
    exported = torch.export.export(SUBMODULE.build(SMALL).eval(), (images,))
    assert not exported.range_constraints, "a shape depends on data"
    assert exported.module()(images).shape == SUBMODULE.outputs[0].resolve(dimensions)
