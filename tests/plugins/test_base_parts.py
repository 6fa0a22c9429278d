"""What UniAD-base's network has that UniAD-tiny's has not, each part by itself."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import grid_sample

from custom_ops.multi_scale_deformable_attention.layers import FlatlyReadAttention
from plugins.bev_encoder.geometry import ego_shift
from plugins.image_encoder.model import Bottleneck, DeformableConv2d, FeaturePyramid
from plugins.occupancy.layers import Resampling
from plugins.tracking.boxes import decode_yaw
from toolkit.config.check import check_values
from toolkit.config.model import (
    AngleFormula,
    BackboneStyle,
    BevConfig,
    ImageConfig,
    ModelConfig,
    OccupancyConfig,
)  # fmt: skip
from toolkit.errors import InputError
from toolkit.nn.coordinates import bev_reference_points


def test_caffe_has_the_stride_on_the_first_convolution() -> None:
    block = Bottleneck(64, 32, 2, BackboneStyle.CAFFE, deformable=True)
    assert isinstance(block.conv2, DeformableConv2d)
    assert block.conv1.stride == (2, 2)
    assert block(torch.randn(1, 64, 6, 8)).shape == (1, 128, 3, 4)


def test_pyramid_adds_a_level_behind_the_coarsest() -> None:
    pyramid = FeaturePyramid((4, 8), 2, 3)
    shapes = [level.shape[-2:] for level in pyramid((torch.randn(1, 4, 6, 10), torch.randn(1, 8, 3, 5)))]
    assert shapes == [(6, 10), (3, 5), (2, 3)]


def test_levels_of_the_neck_have_the_sizes_of_the_configuration() -> None:
    """The sizes of UniAD-base: 30,825 cells of a camera."""
    image = ImageConfig(scale=1.0, stride=8, levels=4)
    assert image.features == ((116, 200), (58, 100), (29, 50), (15, 25))
    assert image.joined_features == (1, 30825)


@pytest.mark.parametrize(("stride", "levels"), [(7, 1), (8, 2), (4, 5), (32, 3)])
def test_levels_that_the_backbone_does_not_give_are_refused(stride: int, levels: int) -> None:
    with pytest.raises(InputError, match=r"image\.(stride|levels) is"):
        check_values(ModelConfig(image=ImageConfig(stride=stride, levels=levels)))


@pytest.mark.parametrize("queries", [8, 7])
def test_flat_reading_takes_what_was_computed_for_other_queries(queries: int) -> None:
    """Query q, head h: the entry of query q // 4, head 2 (q mod 4) + h // 4, level h mod 4."""
    torch.manual_seed(0)
    heads, levels, points, height, width = 8, 4, 2, 4, 6
    attention = FlatlyReadAttention(16, heads, points, levels=levels).eval()
    query, value, reference = torch.randn(queries, 16), torch.randn(height * width, 16), torch.rand(queries, 2)
    offsets = attention.sampling_offsets(query).view(queries, heads, levels, points, 2)
    weights = attention.attention_weights(query).view(queries, heads, -1).softmax(-1)
    weights = weights.view(queries, heads, levels, points)
    planes = attention.value_proj(value).view(height, width, heads, -1).permute(2, 3, 0, 1)
    found = torch.zeros(queries, heads, planes.shape[1])
    for q in range(queries):
        for h in range(heads):
            entry = (q // 4, 2 * (q % 4) + h // 4, h % 4)
            places = reference[q // 4] + offsets[entry] / torch.tensor([width, height])
            sampled = grid_sample(planes[h : h + 1], 2 * places[None, None] - 1, align_corners=False)
            found[q, h] = (sampled[0, :, 0] * weights[entry]).sum(-1)
    expected = query + attention.output_proj(found.flatten(1))
    torch.testing.assert_close(attention(query, value, reference, (height, width)), expected)


def test_occupancy_samples_the_bev_at_its_own_cells() -> None:
    """A BEV that holds its own metres, resampled, holds those of the finer grid's cells; rows stay y."""
    config = ModelConfig(bev=BevConfig(height=20, width=10), occupancy=OccupancyConfig(cell_metres=2.0, resampled=True))
    metres = (bev_reference_points(20, 10) * 102.4 - 51.2).T.reshape(1, 2, 20, 10)
    x, y = Resampling(config)(metres)[0]
    torch.testing.assert_close(x[3], torch.arange(-9.0, 10, 2))
    torch.testing.assert_close(y[:, 3], torch.arange(-19.0, 20, 2))


@pytest.mark.parametrize("direction", [0, 45, 90, 135, 180, -90, -135])
def test_exact_shift_points_where_the_ego_went(direction: int) -> None:
    """Also straight along the axes, which UniAD-tiny's formula confuses."""
    angle, yaw = math.radians(direction), 0.3
    can_bus = torch.zeros(18)
    can_bus[0], can_bus[1], can_bus[16] = 2 * math.cos(angle), 2 * math.sin(angle), yaw
    expected = torch.tensor([math.sin(yaw - angle), math.cos(yaw - angle)]) * 2 / 102.4
    torch.testing.assert_close(ego_shift(can_bus, BevConfig(), AngleFormula.ATAN2), expected, rtol=0, atol=1e-7)


def test_exact_yaw_has_no_gap_where_the_cosine_vanishes() -> None:
    sine, cosine = torch.tensor([1.0, -1, 0, 0]), torch.tensor([-1e-8, -1e-8, -1, 0])
    expected = torch.tensor([math.pi / 2, -math.pi / 2, math.pi, 0])
    torch.testing.assert_close(decode_yaw(sine, cosine, AngleFormula.ATAN2), expected)
