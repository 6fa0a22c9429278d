"""The BEV encoder: ego motion, camera projection, and the two deformable attentions."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from plugins.bev_encoder.attention import CameraFeatures, SpatialCrossAttention, TemporalSelfAttention
from plugins.bev_encoder.geometry import align_rotation, ego_shift, pillar_points, project
from plugins.bev_encoder.model import BevEncoder
from plugins.bev_encoder.plugin import SUBMODULE
from plugins.image_encoder.plugin import SUBMODULE as IMAGE_ENCODER
from tests.joined import inputs_of
from toolkit.config.model import BevConfig, ImageConfig, ModelConfig

SMALL = ModelConfig(
    embed=16,
    heads=2,
    feedforward=32,
    image=ImageConfig(cameras=("front", "back"), scale=0.04),
    bev=BevConfig(height=4, width=6, layers=2),
)
Frame = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def encoder(build_submodule: Callable[..., nn.Module]) -> BevEncoder:
    module = build_submodule(SUBMODULE)
    assert isinstance(module, BevEncoder)
    return module


def camera_and_can_bus(frame: Frame) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(frame["img_metas_lidar2img"][0]), torch.from_numpy(frame["img_metas_can_bus"])


def use_previous(value: int) -> Tensor:
    return torch.tensor([value], dtype=torch.int32)


# Frame 2 of the reference, stage by stage.


def test_projection_matches_the_reference(
    encoder: BevEncoder, frame_inputs_a: list[Frame], intermediates: Frame, close: Callable[..., None]
) -> None:
    lidar2img, _ = camera_and_can_bus(frame_inputs_a[2])
    reference, visible = project(encoder.pts_bbox_head.transformer.pillars, lidar2img, ModelConfig().image.padded)
    close("bev.reference_points_cam", reference)
    close("bev.bev_mask_weight", visible / visible.sum(0).clamp(min=1))

    expected = torch.from_numpy(intermediates["bev.reference_points_cam"][:, 0])
    in_image = ((expected > 0) & (expected < 1)).all(-1)
    torch.testing.assert_close(reference[in_image], expected[in_image], rtol=0, atol=1e-6)


def test_previous_bev_is_rotated_as_in_the_reference(
    encoder: BevEncoder, frame_inputs_a: list[Frame], intermediates: Frame, close: Callable[..., None]
) -> None:
    _, can_bus = camera_and_can_bus(frame_inputs_a[2])
    previous = torch.from_numpy(intermediates["in.prev_bev"][:, 0])
    transformer = encoder.pts_bbox_head.transformer
    rotated = align_rotation(previous, can_bus, transformer.rotate_center, transformer.bev)
    close("bev.prev_bev_rotated_chw", rotated.transpose(0, 1))


def test_every_layer_matches_the_reference(
    encoder: BevEncoder, frame_inputs_a: list[Frame], intermediates: Frame, close: Callable[..., None]
) -> None:
    transformer = encoder.pts_bbox_head.transformer
    stages: dict[str, nn.Module] = {"bev.can_bus_mlp_out": transformer.can_bus_mlp}
    for i, layer in enumerate(transformer.encoder.layers):
        stages |= {
            f"bev.enc{i}.tsa_out": layer.get_submodule("attentions.0"),
            f"bev.enc{i}.sca_out": layer.get_submodule("attentions.1"),
            f"bev.enc{i}.out": layer,
        }
    del stages["bev.enc1.tsa_out"]  # the one stage of which there is no golden data
    seen: dict[str, Tensor] = {}
    hooks = [
        stage.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
        for name, stage in stages.items()
    ]

    _, position = encoder(
        torch.from_numpy(intermediates["img_neck.out.0"]),
        *camera_and_can_bus(frame_inputs_a[2]),
        use_previous(1),
        torch.from_numpy(intermediates["in.prev_bev"][:, 0]),
    )
    for hook in hooks:
        hook.remove()
    for name, output in seen.items():
        close(name, output)
    close("bev.pos", position.transpose(0, 1))


@pytest.mark.parametrize("frame", [0, 4])
def test_first_frame_of_a_scene_matches_the_reference(
    encoder: BevEncoder,
    build_submodule: Callable[..., nn.Module],
    frame_inputs_a: list[Frame],
    golden: Path,
    frame: int,
) -> None:
    """Frame 0 starts from zeros; frame 4 from the BEV of another scene, which lies two thirds of the map away."""
    inputs = frame_inputs_a[frame]
    with np.load(golden / "golden_seedA.npz") as sequence:
        expected = sequence[f"f{frame}.out.bev_embed"][:, 0]
        previous = sequence[f"f{frame - 1}.out.bev_embed"][:, 0] if frame else np.zeros_like(expected)
    features = build_submodule(IMAGE_ENCODER)(torch.from_numpy(inputs["img"][0]))
    bev, _ = encoder(features, *camera_and_can_bus(inputs), use_previous(0), torch.from_numpy(previous))
    torch.testing.assert_close(bev, torch.from_numpy(expected), rtol=0, atol=1e-4)


# Ego motion.


@pytest.mark.parametrize(
    ("dx", "dy", "direction"),
    [
        (0, 0, 0),
        (2, 0, 0),
        (2, 2, math.pi / 4),
        (-2, 2, 3 * math.pi / 4),
        (-2, -2, -3 * math.pi / 4),
        # Where the reference's formula differs from atan2:
        (0, 2, math.pi),
        (0, -2, -math.pi),
        (-2, 0, 0),
    ],
)
def test_shift_follows_the_reference_in_every_direction(dx: float, dy: float, direction: float) -> None:
    yaw = 0.3
    can_bus = torch.zeros(18)
    can_bus[0], can_bus[1], can_bus[16] = dx, dy, yaw
    distance, bearing = math.hypot(dx, dy), yaw - direction
    expected = torch.tensor([distance * math.sin(bearing), distance * math.cos(bearing)]) / 102.4
    torch.testing.assert_close(ego_shift(can_bus, BevConfig()), expected, rtol=0, atol=1e-6)


def test_rotation_turns_around_the_given_center() -> None:
    bev = BevConfig(height=5, width=5)
    previous, can_bus = torch.randn(25, 3), torch.zeros(18)
    center, corner = torch.tensor([2.5, 2.5]), torch.tensor([100.0, 100.0])
    torch.testing.assert_close(align_rotation(previous, can_bus, corner, bev), previous)

    can_bus[17] = 180
    torch.testing.assert_close(align_rotation(previous, can_bus, center, bev), previous.flip(0))
    assert (align_rotation(previous, can_bus, corner, bev) == 0).all(), "the whole map turns out of sight"


# Camera projection. A pinhole camera of 100 x 100 pixels and 90 degrees looks forward (along y).

PINHOLE = torch.tensor([[[50.0, 50, 0, 0], [0, 50, -50, 0], [0, 1, 0, 0], [0, 0, 0, 1]]])


def seen_by_pinhole(*points: tuple[float, float, float]) -> tuple[Tensor, bool]:
    """Positions [D, 2] of one pillar's points in the image, and whether the camera sees the pillar."""
    homogeneous = torch.cat((torch.tensor(points), torch.ones(len(points), 1)), -1)
    reference, visible = project(homogeneous[None], PINHOLE, (100, 100))
    return reference[0, 0], bool(visible)


def test_pillars_stand_on_cell_centers_within_the_height_range() -> None:
    points = pillar_points(BevConfig())
    assert points.shape == (2500, 4, 4)
    torch.testing.assert_close(points[0, 0], torch.tensor([-50.176, -50.176, -4.5, 1]))
    torch.testing.assert_close(points[1, 3], torch.tensor([-48.128, -50.176, 2.5, 1]))


def test_point_ahead_is_seen_in_the_middle_of_the_image() -> None:
    position, visible = seen_by_pinhole((0, 10, 0))
    assert visible
    torch.testing.assert_close(position, torch.tensor([[0.5, 0.5]]))


@pytest.mark.parametrize("point", [(0, -10, 0), (0, 0, 0), (-10, 10, 0), (10, 10, 0), (0, 10, 10), (0, 10, -10)])
def test_points_behind_or_on_the_border_are_not_seen(point: tuple[float, float, float]) -> None:
    position, visible = seen_by_pinhole(point)
    assert not visible
    assert position.isfinite().all()


def test_one_visible_height_makes_the_pillar_visible() -> None:
    position, visible = seen_by_pinhole((0, 10, 0), (0, 10, 20))
    assert visible
    torch.testing.assert_close(position, torch.tensor([[0.5, 0.5], [0.5, -0.5]]))


# Attention.


def test_temporal_attention_off_the_map_gives_only_the_bias() -> None:
    attention = TemporalSelfAttention(dims=8, heads=2, points=4)
    query, position, queue = torch.randn(6, 8), torch.randn(6, 8), torch.randn(2, 6, 8)
    out = attention(query, position, queue, torch.full((6, 2), 50.0), (2, 3))
    torch.testing.assert_close(out, query + attention.output_proj.bias)


def test_spatial_attention_averages_the_cameras_that_see_the_pillar() -> None:
    attention = SpatialCrossAttention(dims=8, heads=2, points=8)
    query, features, reference = torch.randn(3, 8), torch.randn(2, 6, 8), torch.rand(2, 3, 4, 2)
    features[1, :] = math.nan
    visible = torch.tensor([[True, True, False], [True, False, False]])

    def attend(features: Tensor, visible: Tensor) -> Tensor:
        view = CameraFeatures(features, reference[: len(features)], visible)
        out: Tensor = attention(query, view, (2, 3))
        return out

    _, first, neither = attend(features, visible)
    torch.testing.assert_close(first, attend(features[:1], visible[:1])[1])
    torch.testing.assert_close(neither, query[2] + attention.output_proj.bias)

    features[1], reference[1] = features[0], reference[0]
    torch.testing.assert_close(attend(features, visible)[0], attend(features[:1], visible[:1])[0])


def small_inputs() -> list[Tensor]:
    dimensions = SMALL.dimensions()
    return [torch.from_numpy(spec.zeros(dimensions)) for spec in inputs_of(SUBMODULE)]


def test_new_scene_ignores_the_previous_bev() -> None:
    encoder = SUBMODULE.build(SMALL).eval()
    *inputs, _, previous = small_inputs()
    fresh, _ = encoder(*inputs, use_previous(0), previous)
    other, _ = encoder(*inputs, use_previous(0), torch.full_like(previous, math.nan))
    assert fresh.isfinite().all()
    assert torch.equal(fresh, other)

    continued, _ = encoder(*inputs, use_previous(1), previous)
    assert not torch.equal(fresh, continued)


@pytest.mark.converts
def test_exports_with_the_shapes_of_its_specs() -> None:
    inputs = tuple(small_inputs())
    exported = torch.export.export(SUBMODULE.build(SMALL).eval(), inputs)
    assert not exported.range_constraints, "a shape depends on data"
    shapes = [output.shape for output in exported.module()(*inputs)]
    assert shapes == [spec.resolve(SMALL.dimensions()) for spec in SUBMODULE.outputs]
