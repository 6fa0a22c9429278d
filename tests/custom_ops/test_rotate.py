"""Rotation of a feature map around a pixel position."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from onnx import NodeProto
from torch import Tensor

from custom_ops.rotate.op import ROTATE, rotate
from toolkit.ops.spec import node_attributes

HEIGHT, WIDTH = 6, 8
CENTERS = [(4.0, 3.0), (1.5, 5.0), (100.0, 100.0), (-7.0, 2.5)]
"""x, y in pixels: the middle of the image, elsewhere inside, and outside on either side."""

POSES = [(angle, center) for angle in (0.0, 3.0, -17.0, 88.0, 200.0) for center in CENTERS]


def image() -> Tensor:
    return torch.randn((2, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0))


def tensors(angle: float, center: tuple[float, float]) -> tuple[Tensor, Tensor]:
    return torch.tensor([angle]), torch.tensor(center)


def source(row: int, column: int, angle: float, center: tuple[float, float]) -> tuple[float, float]:
    """Where an output pixel looks: its position turned about the center, (y, x) with pixel centres at integers."""
    x, y = column + 0.5 - center[0], row + 0.5 - center[1]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return center[1] + sin * x + cos * y - 0.5, center[0] + cos * x - sin * y - 0.5


def pixel(image: np.ndarray, row: int, column: int) -> np.ndarray:
    """Channels of a pixel; zeros outside."""
    inside = 0 <= row < image.shape[1] and 0 <= column < image.shape[2]
    return image[:, row, column] if inside else np.zeros(len(image))


def bilinear(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """Average of the four nearest pixels, weighted by nearness."""
    row, column = math.floor(y), math.floor(x)
    down, right = y - row, x - column
    return (
        (1 - down) * (1 - right) * pixel(image, row, column)
        + (1 - down) * right * pixel(image, row, column + 1)
        + down * (1 - right) * pixel(image, row + 1, column)
        + down * right * pixel(image, row + 1, column + 1)
    )


def nearest(image: np.ndarray, y: float, x: float) -> np.ndarray:
    return pixel(image, round(y), round(x))


def reference(
    sample: Callable[..., np.ndarray], image: Tensor, angle: float, center: tuple[float, float]
) -> np.ndarray:
    """The rotation pixel by pixel in float64."""
    values = image.double().numpy()
    rows = [[sample(values, *source(i, j, angle, center)) for j in range(WIDTH)] for i in range(HEIGHT)]
    return np.moveaxis(np.array(rows), -1, 0)


def certain(angle: float, center: tuple[float, float]) -> np.ndarray:
    """Pixels [H, W] whose nearest source pixel no rounding can change."""
    sources = np.array([[source(i, j, angle, center) for j in range(WIDTH)] for i in range(HEIGHT)])
    settled: np.ndarray = np.all(np.abs(sources % 1 - 0.5) > 1e-3, axis=-1)
    return settled


@pytest.mark.parametrize(("angle", "center"), POSES)
def test_bilinear_equals_the_reference(angle: float, center: tuple[float, float]) -> None:
    rotated = rotate(image(), *tensors(angle, center), "bilinear")
    np.testing.assert_allclose(rotated, reference(bilinear, image(), angle, center), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("angle", "center"), POSES)
def test_nearest_equals_the_reference(angle: float, center: tuple[float, float]) -> None:
    rotated = rotate(image(), *tensors(angle, center), "nearest").numpy()
    settled = certain(angle, center)
    assert settled.mean() > 0.9
    np.testing.assert_array_equal(
        rotated[:, settled], reference(nearest, image(), angle, center)[:, settled].astype(np.float32)
    )


def test_quarter_turn_is_counter_clockwise_on_the_screen() -> None:
    square = torch.arange(16.0).view(1, 4, 4)
    turned = rotate(square, *tensors(90, (2, 2)), "nearest")
    np.testing.assert_array_equal(turned[0], np.rot90(square[0]))


def test_content_that_turns_out_of_view_leaves_zeros() -> None:
    assert not rotate(image(), *tensors(180, (100, 100)), "bilinear").any()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize(("angle", "center"), POSES)
def test_function_body_equals_eager(
    angle: float, center: tuple[float, float], interpolation: str, run_body: Callable[..., np.ndarray]
) -> None:
    inputs = image(), *tensors(angle, center)
    eager, body = rotate(*inputs, interpolation).numpy(), run_body(ROTATE, *inputs, interpolation=interpolation)
    settled = certain(angle, center) if interpolation == "nearest" else np.full((HEIGHT, WIDTH), True)
    np.testing.assert_allclose(body[:, settled], eager[:, settled], rtol=0, atol=1e-4)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_torch_contract(interpolation: str) -> None:
    """Schema, fake tensors and tracing agree with the implementation."""
    torch.library.opcheck(rotate, (image(), *tensors(30, (4, 3)), interpolation))


def test_node_has_three_inputs_and_the_interpolation() -> None:
    assert ROTATE.inputs == ("image", "angle", "center")
    assert ROTATE.attributes == {"interpolation": "str"}


@pytest.mark.converts
def test_exports_as_one_node(exported_nodes: Callable[..., list[NodeProto]]) -> None:
    (node,) = exported_nodes(ROTATE, image(), *tensors(30, (4, 3)), interpolation="nearest")
    assert (node.domain, node.op_type) == ("uniad", "Rotate")
    assert node_attributes(node) == {"interpolation": "nearest"}
